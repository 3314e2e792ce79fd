"""A page on localhost where a person clicks: the same cases, records and boards as those of simulated clickers.

``person_episode`` turns a person's clicks into step records, ``run`` is the folder that they go to, ``game`` is what is
played, ``app`` answers the page, whose sources are in ``web/``.
"""
