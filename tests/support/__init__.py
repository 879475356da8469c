"""What several tests share: small scenes, clouds with known answers, the emulated GPU, a browser."""
