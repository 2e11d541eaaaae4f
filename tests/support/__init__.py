"""What tests share: clocks, waits, the other side of a channel, journals and their calls."""
