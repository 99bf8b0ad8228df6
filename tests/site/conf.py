"""Settings of Sphinx for the site, whose pages ``python -m tests.site`` lays out."""

import quatrain

project = "quatrain"
author = "the authors of quatrain"
version = release = quatrain.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "index"

smartquotes = False  # two dashes are two dashes
myst_heading_anchors = 4  # by GitHub's rules, so that links hold in both places
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"quatrain {release}"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]
highlight_language = "text"  # of blocks that name none
pygments_style = "default"
pygments_dark_style = "github-dark"
