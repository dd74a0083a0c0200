"""The installer: disk by rule, a signed version streamed onto it, seed, progress to a server."""
