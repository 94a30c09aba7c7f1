"""`infarct serve`: a page in the browser to segment, review, correct and read scans."""
