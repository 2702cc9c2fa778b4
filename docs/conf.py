"""How `make docs` builds these pages.

Sphinx, since it checks every link between pages and many keep it up; mkdocs-material, the other usual choice, ends in
2027. MyST reads the Markdown as it stands, so the same files read well in a repository browser.
"""

project = "ecotta_rt"
author = "the authors of ecotta_rt"
extensions = ["myst_parser"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["README.md", "examples/**"]
html_theme = "furo"
html_title = "ecotta_rt"
# Links go to headings as a repository browser names them.
myst_heading_anchors = 4
nitpicky = True
