"""Rules for calls, the waiting line and the request limit: pure functions, without I/O and without a clock."""
