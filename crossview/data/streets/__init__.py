"""The built-in sample: streets rendered into the layout of a paired data set.

Conventions of the whole package:
    World points are metres (east, north, up) in the local frame of their street, up = 0 on the ground. Along a street
    a point is (s, t): s metres along its centre line, t metres to the right of it. Bearings are radians clockwise
    from north. Pixels are continuous, x right, y down, from the top left corner, centres at +0.5. Colours are BGR
    from 0 to 255. Every random draw comes from generators seeded by (seed, street), so no picture depends on the
    order of rendering.
"""
