"""The methods that find lesions, and the result they end in."""
