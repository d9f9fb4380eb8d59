UNFOLLOWED: dict[str, str] = {}
