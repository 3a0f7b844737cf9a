"""First names: the 99 of Wang et al. (2022) for indirect object identification, and those that go with one pronoun."""

from __future__ import annotations

NAMES = (
    "Michael Christopher Jessica Matthew Ashley Jennifer Joshua Amanda Daniel David James Robert John Joseph Andrew "
    "Ryan Brandon Jason Justin Sarah William Jonathan Stephanie Brian Nicole Nicholas Anthony Heather Eric Elizabeth "
    "Adam Megan Melissa Kevin Steven Thomas Timothy Christina Kyle Rachel Laura Lauren Amber Brittany Danielle Richard "
    "Kimberly Jeffrey Amy Crystal Michelle Tiffany Jeremy Benjamin Mark Emily Aaron Charles Rebecca Jacob Stephen "
    "Patrick Sean Erin Jamie Kelly Samantha Nathan Sara Dustin Paul Angela Tyler Scott Katherine Andrea Gregory Erica "
    "Mary Travis Lisa Kenneth Bryan Lindsey Kristen Jose Alexander Jesse Katie Lindsay Shannon Vanessa Courtney "
    "Christine Alicia Cody Allison Bradley Samuel"
).split()

# Names that go with either pronoun (Jamie, Shannon, ...), and place names (Christina's Courtney), are in neither.
SHE_NAMES = (
    "Jessica Ashley Jennifer Amanda Sarah Stephanie Nicole Heather Elizabeth Megan Melissa Christina Rachel Laura "
    "Lauren Amber Brittany Danielle Kimberly Amy Crystal Michelle Tiffany Emily Rebecca Erin Samantha Sara Angela "
    "Katherine Erica Mary Lisa Kristen Katie Vanessa Christine Alicia Allison"
).split()
HE_NAMES = (
    "Michael Christopher Matthew Joshua Daniel David James Robert John Joseph Andrew Ryan Brandon Jason Justin William "
    "Jonathan Brian Nicholas Anthony Eric Adam Kevin Steven Thomas Timothy Kyle Richard Jeffrey Jeremy Benjamin Mark "
    "Aaron Charles Jacob Stephen Patrick Nathan Paul"
).split()
