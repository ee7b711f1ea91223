"""What `settings` raises.

SettingsError    settings that cannot be meant: a misspelt name, a broken file
"""

from schemas.errors import SkyfuseError


class SettingsError(SkyfuseError):
    """Settings that cannot be meant: a misspelt name, a file that is broken or not there."""
