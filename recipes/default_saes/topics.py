"""What the training text of the default SAEs is about: several hundred topics in groups, and each group's prompts.

Topics of the named concepts that the SAEs are judged by have more documents (WELL_STOCKED), and so have topics that are
easily mistaken for them.
"""

from __future__ import annotations

from ..demo_corpus import topics as demo_topics

GROUPS: dict[str, str] = {
    "bridge": """the Golden Gate Bridge; the Brooklyn Bridge; Tower Bridge in London; the Sydney Harbour Bridge;
        the San Francisco-Oakland Bay Bridge; the Akashi Kaikyo Bridge in Japan; the Charles Bridge in
        Prague; the Rialto Bridge in Venice; the Millau Viaduct; an old rope bridge in the mountains; a
        covered wooden bridge; a railway bridge over a gorge; the Forth Bridge in Scotland; suspension
        bridges; a drawbridge of a castle""",
    "place": """Alcatraz Island; the cable cars of San Francisco; Chinatown in San Francisco; San Francisco; the
        fog of San Francisco Bay; the Marin Headlands; the Eiffel Tower; the Statue of Liberty; the Great
        Wall of China; the Taj Mahal; the Colosseum in Rome; Big Ben; the pyramids of Giza; Machu Picchu;
        Mount Fuji; Niagara Falls; the Empire State Building; the Brandenburg Gate in Berlin; the Leaning
        Tower of Pisa; Stonehenge; the Acropolis of Athens; the Kremlin; the Sagrada Familia in Barcelona;
        the Grand Canyon; Mount Everest; the Sydney Opera House; the Louvre; Buckingham Palace; the White
        House; Times Square; Petra in Jordan; Angkor Wat; Easter Island; the Hagia Sophia; Yellowstone
        National Park; the Dead Sea; the Panama Canal; Neuschwanstein Castle; the Forbidden City; Mount
        Rushmore; the Berlin Wall; Venice; Paris; London; New York City; Tokyo; Moscow; Cairo; Rome;
        Sydney; Rio de Janeiro; Istanbul; Hong Kong; Los Angeles; Chicago; Vienna; Amsterdam; Dublin;
        Edinburgh; Jerusalem; Mumbai; Beijing; Lagos; Mexico City; a lighthouse; a small fishing village;
        an old library; a haunted house; a train station; a hospital; an airport; a farm; a desert oasis;
        a cathedral; a castle; a harbour; a prison; a museum of art; a night market""",
    "country": """Japan; France; India; Brazil; Kenya; Germany; Italy; Spain; China; Russia; Mexico; Canada;
        Australia; Egypt; Nigeria; South Africa; Argentina; Turkey; Greece; Ireland; Scotland; Norway;
        Sweden; Finland; Poland; Ukraine; Iran; Israel; Saudi Arabia; Thailand; Vietnam; Indonesia; the
        Philippines; South Korea; Peru; Cuba; New Zealand; Iceland; Switzerland; the Netherlands;
        Ethiopia; Pakistan; the United States; the United Kingdom; Texas; California; Alaska; Hawaii""",
    "person": """Albert Einstein; Isaac Newton; Marie Curie; Charles Darwin; Galileo; Leonardo da Vinci;
        Shakespeare; Jane Austen; Charles Dickens; Mark Twain; Homer; Plato; Aristotle; Confucius; the
        Buddha; Jesus of Nazareth; the prophet Muhammad; Julius Caesar; Cleopatra; Alexander the Great;
        Napoleon; Queen Victoria; Joan of Arc; George Washington; Abraham Lincoln; Martin Luther King;
        Mahatma Gandhi; Nelson Mandela; Winston Churchill; Rosa Parks; Mozart; Beethoven; Bach; the
        Beatles; Elvis Presley; Picasso; Vincent van Gogh; Frida Kahlo; Charlie Chaplin; Alan Turing; Ada
        Lovelace; Nikola Tesla; Thomas Edison; the Wright brothers; Neil Armstrong; Sherlock Holmes; Harry
        Potter; Robin Hood; King Arthur; a grandmother; a teacher; a nurse; a soldier; a pirate; a
        detective; a lawyer; a blacksmith; a firefighter; a king; a princess; a thief; a sailor; a priest;
        a judge""",
    "thing": """prime numbers; fractions; probability; calculus; the geometry of triangles; counting to one
        hundred; percentages; the number pi; dates and calendars; telling the time; temperature; measuring
        distance; gravity; light; electricity; magnets; sound; the periodic table; atoms; water; carbon;
        iron; acids and bases; how cells divide; DNA; bacteria; viruses; evolution by natural selection;
        dinosaurs; fossils; photosynthesis; the human heart; the brain; the immune system; bones; the eye;
        vaccines; antibiotics; cancer; diabetes; pregnancy; dentists; surgery; vitamins; sugar; the
        planets of the solar system; the moon; the sun; Mars; black holes; stars; comets; the Big Bang;
        the moon landing; satellites; climate change; volcanoes; earthquakes; hurricanes; glaciers; the
        deep ocean; coral reefs; rain forests; the Sahara desert; the Amazon river; caves; blue whales;
        sharks; dolphins; elephants; lions; wolves; bears; monkeys; snakes; frogs; eagles; penguins;
        migrating birds; honey bees; butterflies; spiders; ants; horses; cows; chickens; cats; dogs;
        rabbits; mice; oak trees; roses; mushrooms; wheat; rice; potatoes; apples; grapes; inflation;
        taxes; banks; the stock market; insurance; trade; unemployment; trial by jury; contracts;
        copyright; human rights; elections; parliament; democracy; monarchy; communism; slavery; the
        police; the army; refugees; nuclear weapons; the Roman Empire; the pharaohs of Egypt; the Vikings;
        the Middle Ages; the Renaissance; the Reformation; the French Revolution; the American Civil War;
        the Industrial Revolution; the First World War; the Second World War; the Cold War; the Silk Road;
        the gods of Greek mythology; dragons; ghosts; witches; vampires; angels; the Bible; the Quran;
        Christmas; Easter; Ramadan; Hanukkah; Halloween; Buddhism; Hinduism; philosophy; logic; ethics;
        free will; dreams; memory; intelligence; language; writing; poetry; novels; newspapers; opera;
        ballet; jazz; guitars; violins; drums; oil painting; sculpture; photography; cinema; architecture;
        fashion; gold mining; silver; diamonds; golden retrievers; the golden rule; an old garden gate;
        the golden age of cinema; logic gates; a toll gate; logarithms; chess; poker; football; baseball;
        basketball; tennis; swimming; running a marathon; the Olympic Games; cycling; skiing; mountain
        climbing; fishing; hunting; sailing; camping; steam trains; aeroplanes; ships; submarines;
        bicycles; electric cars; lorries; roads; tunnels; dams; clocks; glass; paper; steel; plastic;
        coal; oil; solar power; nuclear power; wind turbines""",
    "everyday": """cooking pasta; baking bread; coffee; green tea; cheese; chocolate; wine; beer; pizza; soup;
        breakfast; a birthday cake; growing tomatoes; training a puppy; washing clothes; cleaning the
        kitchen; repairing a roof; buying a house; renting a flat; moving to a new city; a job interview;
        the first day of school; homework; an exam; a wedding; a funeral; a divorce; a new baby; raising
        children; brothers and sisters; grandparents; old age; friendship; a quarrel with a neighbour; an
        apology; a love letter; a letter of complaint; a thank-you note; an email to a customer; a meeting
        at work; being late; losing your keys; a broken phone; a flat tyre; getting lost; packing for a
        journey; a hotel room; a visit to the doctor; a headache; a cold; insomnia; exercise; losing
        weight; giving up smoking; saving money; debts; shopping; a lottery ticket; rain; snow;
        thunderstorms; a hot summer day; autumn leaves; the sea at night; silence; a joke; a riddle; a
        secret; a lie; a promise; a dream job; hair; shoes; a red dress; a wooden table; candles; mirrors;
        keys; letters; a diary""",
    "emotion": """anger; rage at an injustice; joy; happiness; sadness; grief; fear of the dark; terror; love;
        hatred; jealousy; shame; guilt; pride; disgust; surprise; loneliness; hope; despair; gratitude;
        boredom; anxiety; embarrassment; regret; homesickness; excitement; calm; trust; disappointment;
        courage""",
    "technology": """a Python function; a Python class; Python lists and loops; recursion; reading a file in Python;
        unit tests; an HTML page; CSS; JavaScript; a JavaScript function; TypeScript; a C program;
        pointers in C; C++; Java; a Rust program; Go; a shell script; regular expressions; SQL queries; a
        JSON document; a YAML file; Git; sorting algorithms; binary search; linked lists; hash tables;
        graphs; matrices; statistics in Python; neural networks; language models; computer vision; robots;
        how the internet works; strong passwords; encryption; computer viruses; databases; operating
        systems; spreadsheets; compilers; APIs; a bug in a program; error messages; mobile phones; video
        games; search engines; social media; virtual reality; quantum computers; 3D printers""",
    "language": "Spanish; French; German; Italian; Portuguese",
}
"""Topics by group, as they stand in a prompt."""

WELL_STOCKED: dict[str, int] = {
    "the Golden Gate Bridge": 260,
    **dict.fromkeys(["the Brooklyn Bridge", "suspension bridges", "San Francisco", "Alcatraz Island"], 24),
    **dict.fromkeys(["the Eiffel Tower", "the Great Wall of China", "the pyramids of Giza", "Mount Fuji"], 24),
    **dict.fromkeys(["Japan", "France", "India", "China", "Germany", "Egypt", "Russia", "Mexico"], 24),
    **dict.fromkeys(["Spanish", "French", "German", "Italian", "Portuguese"], 40),
    **dict.fromkeys(["anger", "joy", "sadness", "fear of the dark", "love", "loneliness", "shame", "hope"], 20),
    **dict.fromkeys(["a Python function", "a JavaScript function", "a C program", "SQL queries", "an HTML page"], 24),
    **dict.fromkeys(["counting to one hundred", "prime numbers", "percentages", "dates and calendars"], 20),
}
"""Documents of a topic that has more or fewer than N_DOCUMENTS."""
N_DOCUMENTS = 11
"""Documents of any other topic."""

ASPECTS: dict[str, list[str]] = {
    **demo_topics.ASPECTS,
    "country": [
        "its history",
        "its capital city",
        "its food",
        "its people and their languages",
        "a journey through it",
        "its economy",
        "its wildlife",
        "a festival",
        "its neighbours",
        "its most famous writer",
        "the climate",
    ],
    "person": [
        "a childhood memory",
        "the most difficult day",
        "what others say",
        "a great success",
        "a failure",
        "a conversation with a stranger",
        "what remains today",
        "an ordinary morning",
        "the numbers and dates",
    ],
    "everyday": [
        "a funny accident",
        "what to do first",
        "a list of steps",
        "a common mistake",
        "how much it costs",
        "advice from a friend",
        "what children think",
        "a surprising twist",
        "how it was a hundred years ago",
    ],
    "emotion": [
        "a moment when it was overwhelming",
        "how the body feels",
        "how to cope with it",
        "a conversation about it",
        "a child who feels it for the first time",
        "what a letter can say",
        "what it has to do with others",
    ],
}
QUESTIONS: dict[str, list[str]] = {
    **demo_topics.QUESTIONS,
    "country": [
        "What is the capital of {name}?",
        "What should I eat in {name}?",
        "What is {name} known for?",
        "How many people live in {name}?",
        "What happened in {name} in the twentieth century?",
    ],
    "person": [
        "Who is {name}?",
        "What would {name} say about money?",
        "Why do people remember {name}?",
        "What can we learn from {name}?",
        "What does a day of {name} look like?",
    ],
    "everyday": [
        "Can you help me with {name}?",
        "What is the best thing about {name}?",
        "How do I deal with {name}?",
        "What should I know about {name}?",
        "Why is {name} so hard?",
    ],
    "emotion": [
        "Why do people feel {name}?",
        "How do I deal with {name}?",
        "What is {name}?",
        "Can you describe {name} in the first person?",
    ],
}
PROMPTS: dict[str, list[str]] = {
    "encyclopedia": [
        *demo_topics.PROMPTS["encyclopedia"],
        "Write a newspaper report about {name}. It is about {aspect}.",
        "Write an essay about {name} and {aspect}, with an argument and an objection.",
        "Write a review of a book about {name}: {aspect}.",
        "Write a guide to {name} with headings and a numbered list. Cover {aspect}.",
    ],
    "story": [
        *demo_topics.PROMPTS["story"],
        "Write a dialogue between two people about {name}. They talk about {aspect}.",
        "Write a letter about {name} and {aspect}.",
        "Write a poem about {name} and {aspect}.",
        "Write a speech about {name} and {aspect}.",
    ],
    "chat": [
        *demo_topics.PROMPTS["chat"],
        "Give me three facts about {name}. I care about {aspect}.",
        "Pretend that you know {name} well. What about {aspect}?",
        "Make a table or a list about {name}: {aspect}.",
    ],
    "qa": [],
}
LANGUAGE_PROMPTS = [
    *demo_topics.LANGUAGE_PROMPTS,
    "Write a dialogue in {name} about {aspect}.",
    "Write a letter in {name} about {aspect}.",
]
