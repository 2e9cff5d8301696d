"""The pocket model: its training on synthetic scenes. `python -m kontext_slider.train.pocket`."""
