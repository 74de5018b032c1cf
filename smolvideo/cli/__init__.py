"""Command-line interface (click): parse options, call the library, show results, exit."""
