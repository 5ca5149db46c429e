"""Pages to look at: what decisions rest on (page.py), and stamps to be labelled (labelling.py), of HTML that
needs nothing but itself (fragments.py)."""
