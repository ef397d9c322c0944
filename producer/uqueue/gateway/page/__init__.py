"""The page for people at `/`: what the service does now, readable without JavaScript and without the internet.

routes.py      the page, its parts for refreshing, its files
look.py        what there is to show, asked for at most once a second however many look
rates.py       jobs per second and times from two readings of the shared counters
samples.py     some of the intervals that this gateway handed out
parts.py tables.py plot.py map.py     what was found as HTML and SVG
geometry.py    where positions lie on the map; ticks
markup.py      HTML that escapes whatever it is given
page.html page.css page.js icon.svg   what the browser gets
"""
