"""Reference pages, man pages and shell completion, made of the code that they are about."""
