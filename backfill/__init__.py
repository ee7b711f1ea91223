"""What came too late, or is taken back: windows made again, and what follows from them."""
