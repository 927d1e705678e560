"""The names in the synthetic registry. Every name is one word, so that a word-level tokenizer covers the world."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_NAMES = _words(
    "Ada Amir Anna Boris Carla Chen Dana Diego Elena Emil Fatima Felix Greta Hana Hugo Ines Ivan Jana Jonas Kai Lara"
    " Leo Lina Marco Maya Mila Nadia Nils Olga Omar Paula Pedro Rosa Samir Sofia Tariq Uma Viktor Yara Zoe"
)
LAST_NAMES = _words(
    "Adler Baker Berg Castro Costa Dahl Diaz Engel Falk Fischer Garcia Haas Ibsen Jensen Kato Keller Kim Lang Lind"
    " Lopez Meyer Moreau Nagy Novak Okafor Olsen Park Petrov Quist Reyes Rossi Sato Silva Singh Tanaka Torres Vogel"
    " Weber Yilmaz Zeman"
)
COMPANIES = _words(
    "Acrona Belmont Brightway Calyx Corvia Deltano Domus Elmwood Enzyra Fairlane Fontana Glowtech Granite Halcyon"
    " Helix Indigo Ivory Juniper Kestrel Kronos Lattice Lumena Marlin Meridian Nimbus Nordlicht Oakley Orbita Paragon"
    " Pinnacle Quantia Quarry Redwood Rivulet Solaria Summit Tandem Terrano Umbra Unison Vantage Vertex Westfall"
    " Windmere Xenon Yardley Zenith Zephyr"
)
CITIES = _words(
    "Accra Athens Baku Bergen Bern Bogota Boston Cairo Dakar Delhi Dublin Florence Geneva Ghent Hanoi Havana Izmir"
    " Jaipur Kyiv Kyoto Lagos Leeds Lima Lisbon Lyon Madrid Manila Milan Mumbai Nairobi Naples Oslo Ottawa Perth Porto"
    " Prague Quito Riga Rome Seoul Tallinn Tunis Turin Utrecht Vienna Warsaw Zagreb"
)
COUNTRIES = _words(
    "Albania Austria Belgium Bolivia Canada Chile Denmark Egypt Finland France Ghana Greece India Ireland Japan Kenya"
    " Latvia Mexico Norway Peru Poland Spain Turkey Vietnam"
)
HOBBIES = _words("archery baking ceramics chess cycling drawing fishing hiking judo opera poetry sailing")
