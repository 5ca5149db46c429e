"""The page on which maps and ledgers are looked at: page.py makes it of viewer.css and the two scripts."""
