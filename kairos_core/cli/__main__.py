"""`python -m kairos_core.cli` is `kairos`."""

from kairos_core.cli import main

main()
