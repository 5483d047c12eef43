"""Many pictures, each to a scene, on an engine that others wrote.

`pictures` reads what there is to do, `tasks` does one picture in a worker, `driver` hands tasks to
an engine and decides what happens to those that fail, `records` writes down what became of each.
"""
