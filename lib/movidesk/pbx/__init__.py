"""What Asterisk is asked, by its console or its manager interface."""
