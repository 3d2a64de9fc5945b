"""The cleaning of `schemas/*.toml`, as far as the records need it: none of them has white space at the ends of its texts, so that nobody but
Pintail looks for any."""

# JSON field -> type: what the engines are told, so that none has to guess.
FIELDS = {
    "pin": {"index": int, "unique_id": str, "title": str, "description": str, "poster_name": str, "follower_count": str, "tag_list": str,
            "is_image_or_video": str, "image_src": str, "downloaded": int, "save_location": str, "category": str},
    "geo": {"ind": int, "timestamp": str, "latitude": float, "longitude": float, "country": str},
    "user": {"ind": int, "first_name": str, "last_name": str, "age": int, "date_joined": str},
}

# Texts that mean "nothing", the empty one among them.
NOTHING = {
    "title": ["No Title Data Available", ""],
    "description": ["No description available Story format", "No description available", ""],
    "poster_name": ["User Info Error", ""],
    "tag_list": ["N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e", ""],
    "image_src": ["Image src error.", ""],
}

PREFIX = "Local save in "  # in front of every save_location


def quoted(text):
    """As a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def or_null(column):
    """SQL: the column, or null where it says nothing."""
    return f"case when {column} in ({', '.join(map(quoted, NOTHING[column]))}) then null else {column} end as {column}"
