"""Train nano from scratch on procedurally generated videos."""
