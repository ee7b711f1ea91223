"""What `camera` raises.

ImageRefused    a frame's bytes cannot become pixels; carries a stable code
"""

from schemas.errors import SkyfuseError


class ImageRefused(SkyfuseError):
    """A frame's bytes cannot become pixels.

    `code` is one of `camera.picture_file.REFUSALS` (for metrics and dead letters); the message is for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
