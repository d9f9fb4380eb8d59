"""The gallery of the page: images with their boxes, every method's map and what was measured on them."""
