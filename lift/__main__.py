from lift.cli import main

raise SystemExit(main())
