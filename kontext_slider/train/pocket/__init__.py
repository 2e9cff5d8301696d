"""The pocket model: its small drawn world, its training, its weights. `python -m kontext_slider.train.pocket`."""
