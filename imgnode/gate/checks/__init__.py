"""One small file for each thing that the gate looks at."""
