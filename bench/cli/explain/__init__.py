"""`axiom-bench explain`: images, a model's top classes, and the maps of many methods, as pictures or a page."""
