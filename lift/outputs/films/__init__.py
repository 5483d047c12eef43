"""Films of a finished scene: a camera motion that stays covered, framed and rendered."""

from lift.outputs.films.film import FilmSource, write_film
from lift.outputs.films.options import FilmOptions
from lift.outputs.films.plan import FilmPlan

__all__ = ["FilmOptions", "FilmPlan", "FilmSource", "write_film"]
