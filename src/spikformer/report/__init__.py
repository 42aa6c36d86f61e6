"""What a network did, for people: pages and figures."""
