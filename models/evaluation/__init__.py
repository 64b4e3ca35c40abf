"""How right the tiers are on labelled photos, and what a site's labels are worth."""
