"""How a number of things is said."""


def counted(number: int, what: str) -> str:
    """1 window, 2 windows."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
