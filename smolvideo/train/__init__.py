"""Training: nano from nothing, on a world that is drawn while it trains."""
