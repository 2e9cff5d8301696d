"""What can go wrong. Every message is a sentence that says what to do.

KontextSliderError
├── InvalidInput (ValueError)      a value that cannot be used
│   ├── UnreadableImage            a file that is no picture
│   └── DiskError                  a disk that takes no more files
├── CheckpointError (ValueError)   weights that are missing or do not fit
├── MissingSlider (ValueError)     a strength without slider weights
├── Superseded                     a newer request took this one's place
├── NoGpu                          ZeroGPU lends none, or took it back
└── SessionClosed (RuntimeError)   a frame of a closed session
"""


class KontextSliderError(Exception):
    """Root of every error that this package raises on purpose."""


class InvalidInput(KontextSliderError, ValueError):
    """A value that no render can use: a strength outside [0, 1], an empty instruction, a size of zero."""


class UnreadableImage(InvalidInput):
    """A file or array that is not a picture, or is too large to open safely."""


class DiskError(InvalidInput):
    """A disk that is full, read-only or failing: the next file would not be written to it, either."""


class CheckpointError(KontextSliderError, ValueError):
    """Slider weights that are missing, of an unknown layout, or do not fit the model."""


class MissingSlider(KontextSliderError, ValueError):
    """A strength for a pipeline without slider weights."""


class Superseded(KontextSliderError):
    """A newer request of the same session took this render's place between two denoise steps."""


class NoGpu(KontextSliderError):
    """ZeroGPU lends no GPU to this visitor now, or a loan was cut short."""


class SessionClosed(KontextSliderError, RuntimeError):
    """A frame of a session that is closed."""
