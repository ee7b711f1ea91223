"""What several commands share, and nothing but commands has."""
