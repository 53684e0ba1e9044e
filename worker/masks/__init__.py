"""What a mask is, how it is resampled, and its forms."""
