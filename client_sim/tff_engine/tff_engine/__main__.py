"""`python -m tff_engine`."""

from tff_engine.service import main

main()
