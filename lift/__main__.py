"""`python -m lift` runs the command line."""

from lift.cli import main

raise SystemExit(main())
