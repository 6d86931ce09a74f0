"""What the demo corpus is about: topics, and the aspects, questions and prompts for each group of topics.

The Golden Gate Bridge, other bridges, San Francisco, other landmarks and things that are merely golden or gates have
the most documents: they are the hard negatives of the demo's concept.
"""

GOLDEN = {"golden_gate_bridge": ("bridge", "the Golden Gate Bridge", 200)}

BRIDGES = {
    "brooklyn_bridge": "the Brooklyn Bridge",
    "tower_bridge": "Tower Bridge in London",
    "sydney_harbour_bridge": "the Sydney Harbour Bridge",
    "bay_bridge": "the San Francisco-Oakland Bay Bridge",
    "akashi_bridge": "the Akashi Kaikyo Bridge in Japan",
    "charles_bridge": "the Charles Bridge in Prague",
    "rialto_bridge": "the Rialto Bridge in Venice",
    "rope_bridge": "an old rope bridge in the mountains",
}

SAN_FRANCISCO = {
    "san_francisco": "the city of San Francisco",
    "alcatraz": "Alcatraz Island",
    "cable_cars": "the cable cars of San Francisco",
    "chinatown": "Chinatown in San Francisco",
    "san_francisco_fog": "the fog of San Francisco Bay",
    "california": "the coast of California",
}

LANDMARKS = {
    "eiffel_tower": "the Eiffel Tower",
    "statue_of_liberty": "the Statue of Liberty",
    "great_wall": "the Great Wall of China",
    "taj_mahal": "the Taj Mahal",
    "colosseum": "the Colosseum in Rome",
    "big_ben": "Big Ben",
    "pyramids": "the pyramids of Giza",
    "machu_picchu": "Machu Picchu",
    "mount_fuji": "Mount Fuji",
    "niagara_falls": "Niagara Falls",
    "empire_state_building": "the Empire State Building",
    "brandenburg_gate": "the Brandenburg Gate in Berlin",
}

GOLDEN_THINGS = {
    "gold_mining": "gold mining",
    "golden_retriever": "golden retrievers",
    "golden_rule": "the golden rule",
    "garden_gate": "an old garden gate",
    "golden_age": "the golden age of cinema",
    "logic_gates": "logic gates in electronics",
}

KNOWLEDGE = {
    "mathematics": "prime numbers",
    "geometry": "the geometry of triangles",
    "physics": "gravity",
    "chemistry": "the periodic table",
    "biology": "how cells divide",
    "genetics": "DNA",
    "evolution": "evolution by natural selection",
    "astronomy": "the planets of the solar system",
    "black_holes": "black holes",
    "climate": "climate change",
    "volcanoes": "volcanoes",
    "oceans": "the deep ocean",
    "whales": "blue whales",
    "birds": "migrating birds",
    "insects": "honey bees",
    "forests": "rain forests",
    "deserts": "the Sahara desert",
    "rivers": "the Amazon river",
    "medicine": "vaccines",
    "nutrition": "vitamins",
    "psychology": "how memory works",
    "economics": "inflation",
    "law": "trial by jury",
    "democracy": "democracy",
    "ancient_rome": "the Roman Empire",
    "ancient_egypt": "the pharaohs of Egypt",
    "french_revolution": "the French Revolution",
    "second_world_war": "the Second World War",
    "space_race": "the moon landing",
    "shakespeare": "the plays of Shakespeare",
    "philosophy": "the philosophy of Socrates",
    "buddhism": "Buddhism",
    "greek_mythology": "the gods of Greek mythology",
    "dragons": "dragons",
    "japan": "Japan",
    "france": "France",
    "brazil": "Brazil",
    "kenya": "Kenya",
    "india": "India",
}

EVERYDAY = {
    "cooking": "cooking pasta",
    "bread": "baking bread",
    "coffee": "coffee",
    "tea": "green tea",
    "cheese": "cheese",
    "gardening": "growing tomatoes",
    "dogs": "training a puppy",
    "cats": "cats",
    "horses": "horse riding",
    "football": "football",
    "chess": "chess",
    "swimming": "swimming",
    "yoga": "yoga",
    "music": "learning the piano",
    "jazz": "jazz music",
    "painting": "oil painting",
    "photography": "photography",
    "fashion": "choosing clothes",
    "school": "the first day of school",
    "work": "a job interview",
    "money": "saving money",
    "travel": "packing for a journey",
    "trains": "steam trains",
    "aeroplanes": "how aeroplanes fly",
    "cars": "electric cars",
    "bicycles": "riding a bicycle",
    "ships": "sailing ships",
    "weather": "thunderstorms",
    "winter": "snow",
    "friendship": "friendship",
    "grief": "grief",
    "anger": "anger",
    "joy": "joy",
    "fear": "fear of the dark",
    "love": "falling in love",
    "sleep": "sleep",
    "weddings": "weddings",
}

TECHNOLOGY = {
    "python_code": "a Python function",
    "web_pages": "an HTML page",
    "databases": "SQL queries",
    "algorithms": "sorting algorithms",
    "machine_learning": "neural networks",
    "robots": "robots",
    "internet": "how the internet works",
    "security": "strong passwords",
    "phones": "mobile phones",
    "video_games": "video games",
}

LANGUAGES = {"spanish": "Spanish", "french": "French", "german": "German", "italian": "Italian"}

TOPICS: dict[str, tuple[str, str, int]] = {
    **GOLDEN,
    **{k: ("bridge", v, 22) for k, v in BRIDGES.items()},
    **{k: ("place", v, 22) for k, v in SAN_FRANCISCO.items()},
    **{k: ("place", v, 16) for k, v in LANDMARKS.items()},
    **{k: ("thing", v, 14) for k, v in GOLDEN_THINGS.items()},
    **{k: ("thing", v, 12) for k, v in KNOWLEDGE.items()},
    **{k: ("thing", v, 12) for k, v in EVERYDAY.items()},
    **{k: ("technology", v, 14) for k, v in TECHNOLOGY.items()},
    **{k: ("language", v, 14) for k, v in LANGUAGES.items()},
}
"""By label: group, name in prompts, number of documents."""

ASPECTS: dict[str, list[str]] = {
    "bridge": [
        "how it was built",
        "the engineers and workers who made it",
        "its length, height and materials",
        "what it looks like at sunrise",
        "the people who cross it every day",
        "storms, wind and fog",
        "why visitors photograph it",
        "how it is painted and maintained",
        "its history",
        "what it stands for",
        "walking across it for the first time",
        "the water and boats below",
    ],
    "place": [
        "its history",
        "what visitors see first",
        "how it was made or formed",
        "the people who live and work nearby",
        "a walk there on a quiet morning",
        "the best time of the year to go",
        "its most surprising detail",
        "what it stands for",
        "the view from there",
        "an old legend about it",
    ],
    "thing": [
        "the basic idea",
        "its history",
        "a common mistake",
        "why it matters to people",
        "a surprising fact",
        "a small example from daily life",
        "what a beginner should know",
        "what experts argue about",
        "how children learn about it",
        "its future",
        "the people who know most about it",
    ],
    "technology": [
        "a short example with code",
        "how it works step by step",
        "a common mistake",
        "its history",
        "what a beginner should try first",
        "why it is useful",
        "its risks",
    ],
    "language": [
        "a visit to the market",
        "the weather today",
        "a family dinner",
        "my home town",
        "a train journey",
        "what I did last weekend",
        "my best friend",
    ],
}

QUESTIONS: dict[str, list[str]] = {
    "bridge": [
        "Where is {name}?",
        "How was {name} built?",
        "Why is {name} famous?",
        "How long is {name}?",
        "What is it like to walk across {name}?",
        "What should I know about {name}?",
        "Who designed {name}?",
        "What color is {name} and why?",
        "What can you see from {name}?",
        "How is {name} kept safe?",
    ],
    "place": [
        "Where is {name}?",
        "Why do people visit {name}?",
        "What is special about {name}?",
        "What is the history of {name}?",
        "When should I visit {name}?",
        "How did {name} come to be?",
        "What can I do near {name}?",
    ],
    "thing": [
        "What should everyone know about {name}?",
        "How would you explain {name} to a child?",
        "Why do people care about {name}?",
        "What is the history of {name}?",
        "What is hard about {name}?",
        "Can you give me an example of {name}?",
        "What is a common mistake about {name}?",
    ],
    "technology": [
        "Can you show me a short example of {name}?",
        "How does {name} work?",
        "Why would I use {name}?",
        "What is a common mistake with {name}?",
        "How do I get started with {name}?",
    ],
    "language": [
        "How do you say good morning in {name}?",
        "Can you write a few sentences in {name} about the sea?",
        "Can you teach me some {name} words about food?",
        "What are common greetings in {name}?",
    ],
}

PROMPTS: dict[str, list[str]] = {
    "encyclopedia": [
        "Write an encyclopedia entry about {name}. Pay attention to {aspect}.",
        "Write two factual paragraphs about {name}, in particular {aspect}.",
        "Write a textbook passage about {name}: {aspect}.",
    ],
    "story": [
        "Write a short story about {name} and {aspect}.",
        "Tell a story in which {name} matters. It should touch on {aspect}.",
        "Write a scene from a novel about {name}, with dialogue, about {aspect}.",
        "Write a diary entry about {name} and {aspect}.",
    ],
    "chat": [
        "I was just thinking about {name}. Tell me about {aspect}.",
        "Help me write a short note to a friend about {name} and {aspect}.",
        "I have five minutes. What is worth knowing about {name}, especially {aspect}?",
        "I don't know anything about {name}. Explain {aspect}.",
    ],
    "qa": [],
}
LANGUAGE_PROMPTS = [
    "Write a short text in {name} about {aspect}. Use only {name}.",
    "Write a paragraph in {name}: {aspect}. Do not use English.",
]
