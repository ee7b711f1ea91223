"""What becomes of a window: quality control, inference, imputation, indices, and what is learned. Pure."""
