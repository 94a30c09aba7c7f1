"""Find, outline and measure acute ischemic stroke lesions on diffusion MRI."""
