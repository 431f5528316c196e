"""An endless, seeded supply of short children's stories and of chats about them.

The stories train the bundled demo model. A story is a plot (a list of beats, each with several wordings) told
about a cast and a set of things that are drawn once and kept to the end, so that a model learns coherence: the
same hero, friend, object and place all the way through. In the templates

    [a|b|c]   is one of the alternatives, which may be empty and may nest;
    {hero}    is a slot: fixed for the story (``{hero}``, ``{thing}``, ``{place}``) or a fresh word from a
        list
              (``{happy}``, ``{bird}``), not the same one twice in a row. ``{Hero}`` is the same, capitalised,
              and ``{bird+}`` the plural.

    >>> import random
    >>> print(tell(random.Random(7)).text)  # doctest: +SKIP
    Once upon a time, there was a curious little fox named Pip. ...
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

BOS, EOS, USER, ASSISTANT = "<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>"

Message = dict[str, str]
Document = str | list[Message]


def _words(text: str) -> tuple[str, ...]:
    """The comma-separated entries of a list below."""
    return tuple(" ".join(entry.split()) for entry in text.split(",") if entry.strip())


def _lines(text: str) -> tuple[str, ...]:
    """The lines of a block below; one that is indented deeper goes on with the one before."""
    return tuple(re.sub(r"\n {5,}", " ", text).strip().split("\n    "))


# ------------------------------------------------------------------------------------------------ the cast

GIRLS = _words("""
    Lily, Mia, Anna, Emma, Sophie, Ella, Zoe, Ruby, Lucy, Grace, Daisy, Rosie, Molly, Nora, Clara, Ivy,
    Alice, Maya, Hannah, Chloe, Amy, Sara, Julia, Eva, Leah, Nina, Tessa, Poppy, Hazel, Violet, Stella,
    Luna, Amelia, Bella, Jane, Kate, Mary, Susie, Betty, Penny, Wendy, Holly, Jasmine, Layla, Elsa, Freya,
    Greta, Heidi, Ingrid, Josie, Kira, Lola, Mabel, Nelly, Olive, Pearl, Rita, Sally, Tilly, Una, Vera,
    Willa, Yara, Zara, Aisha, Priya, Mei, Yuki, Fatima, Carmen, Lucia, Rosa, Marta, Edith, Dora, Matilda,
    Martha, Fiona, Maggie, Annie""")
BOYS = _words("""
    Tom, Ben, Sam, Max, Jack, Leo, Noah, Finn, Oscar, Charlie, Henry, George, Oliver, Toby, Luke, Adam,
    Daniel, Peter, Billy, Tim, Joe, Jake, Nick, Alex, Theo, Hugo, Felix, Arthur, Alfie, Harry, Archie,
    Louis, Simon, Paul, Mark, David, Eric, Frank, Walter, Victor, Martin, Oskar, Emil, Anton, Ivan, Mateo,
    Diego, Carlos, Pablo, Omar, Ali, Karim, Ravi, Arjun, Kenji, Hiro, Ming, Kofi, Jabari, Elias, Jonas,
    Nils, Lars, Edgar, Fred, Gus, Ned, Ted, Will, Rob, Ryan, Owen, Dylan, Liam, Ethan, Caleb, Isaac, Milo,
    Jasper, Rufus""")
BEAST_GIRLS = _words("""
    Dot, Bramble, Honey, Clover, Willow, Fern, Cocoa, Misty, Velvet, Maple, Juniper, Snowflake, Petal,
    Ginger, Cherry, Biscuit, Marigold, Twinkle, Pansy, Tulip, Sugar, Pepper, Cinnamon, Coral, Pebble,
    Dewdrop, Buttercup, Blossom, Peaches, Nutmeg, Hattie, Lulu, Mimi, Coco, Kiki, Tansy, Wren, Rosebud,
    Star, Moonbeam, Sunny, Skye, Ember, Opal, Saffron, Thistle, Dolly, Minty, Flora, Trixie""")
BEAST_BOYS = _words("""
    Pip, Rusty, Bruno, Patch, Buddy, Rocky, Ziggy, Fuzzy, Barnaby, Chester, Duke, Gizmo, Jolly, Kip,
    Monty, Nibbles, Otto, Pickle, Quincy, Rascal, Scout, Teddy, Waldo, Ziggy, Bumble, Bounce, Copper,
    Dusty, Fidget, Flint, Grumble, Hopper, Inky, Jumper, Loki, Mango, Noodle, Oakley, Pogo, Rollo, Sparky,
    Tango, Truffle, Whiskers, Wiggles, Bobo, Cosmo, Digby, Fergus, Humphrey, Boris, Percy, Rufus, Spike,
    Tiny""")
SYLLABLES = _words("""
    ba, be, bi, bo, da, di, do, fa, fi, ga, go, jo, ka, ki, ko, la, li, lo, lu, ma, mi, mo, na, ni, no,
    pa, pi, ra, ri, ro, sa, so, ta, ti, to, va, vi, wi, za, zi, zo, bri, tro, kle, dri, fro, gla, quo,
    tha, sha""")
NAME_ENDS = _words("bo, la, n, r, x, lo, na, zz, ly, kin, dor, bit, ra, ggy, ster, do, mi, ple, ton, wick")

WOODLAND = _words("""
    fox, rabbit, hedgehog, squirrel, badger, deer, bear, owl, mouse, mole, otter, beaver, raccoon,
    chipmunk, wolf, hare, weasel, skunk, porcupine, moose, hamster, robin, sparrow, crow, woodpecker,
    wren, lynx, ferret, dormouse, blackbird, fawn, bear cub, wolf cub, bat, magpie, possum""")
FARM = _words("""
    lamb, piglet, calf, duckling, chick, goat, pony, donkey, kitten, puppy, goose, hen, rooster, foal,
    sheep, cow, pig, horse, turkey, cat, dog, duck""")
FARAWAY = _words("""
    elephant, lion, tiger, monkey, giraffe, zebra, panda, koala, kangaroo, camel, hippo, sloth, parrot,
    peacock, lizard, toucan, cheetah, leopard, gorilla, meerkat, rhino, ostrich, flamingo, crocodile,
    llama, lion cub, buffalo, lemur, armadillo""")
WATERSIDE = _words("""
    frog, turtle, crab, penguin, seal, swan, toad, newt, pelican, walrus, heron, seagull, tortoise, polar
    bear, stork, puffin""")
TINY = _words("""
    bee, ant, ladybug, beetle, snail, caterpillar, butterfly, cricket, spider, moth, worm, grasshopper,
    dragonfly, firefly, bumblebee, centipede""")
MAGICAL = _words("""
    dragon, fairy, robot, elf, gnome, giant, unicorn, goblin, troll, pixie, snowman, ghost, scarecrow,
    monster, dwarf, phoenix, griffin, cloud, tin soldier, star, toy soldier, rag doll, teddy bear, genie,
    leprechaun, sea serpent""")
MEN = _words("""
    boy, boy, boy, boy, boy, prince, knight, wizard, pirate, shepherd, farmer, king, juggler, woodcutter""")
WOMEN = _words("""
    girl, girl, girl, girl, girl, princess, witch, queen, baker, painter, shepherdess, inventor, sailor""")

TRAITS = _words("""
    brave, kind, curious, shy, clever, gentle, cheerful, quiet, playful, silly, friendly, lonely, hopeful,
    careful, honest, lazy, sleepy, busy, polite, patient, happy, merry, lively, noisy, forgetful,
    generous, thoughtful, proud, stubborn, helpful, hungry, grumpy, funny, bold, smart, wise, young,
    little, small, tiny, timid, dreamy, adventurous, mischievous, loyal, jolly, daring, fearless, neat,
    messy, sweet, bouncy, eager, plucky, restless, bashful, fluffy, cautious, impatient, good-natured,
    warm-hearted, absent-minded, bright, tender, humble""")
ELDERS_SHE = _words("""
    Mama, Mom, Mother, Grandma, Granny, Aunt May, Aunt Rose, Grandma Pearl, Old Mrs. Owl, Mrs. Goose, Miss
    Honeywell, Mrs. Green, Mrs. Baker, Granny Oak, Aunt Clementine, Mrs. Brown, Miss Plum, Nana""")
ELDERS_HE = _words("""
    Papa, Dad, Father, Grandpa, Uncle Joe, Uncle Bob, Grandpa Gus, Old Mr. Badger, Mr. Owl, Mr. Green,
    Captain Bluebeard, Mr. Finch, Old Mr. Tortoise, Farmer Hill, Uncle Otis, Mr. Potter, Professor Quill,
    Grandfather""")

HOMES_BEAST = _words("""
    a cozy burrow under an old oak tree, a hollow log beside the stream, a snug den behind the waterfall,
    a little nest of moss and leaves, a warm barn at the edge of the meadow, a round hole on a sunny hill,
    a tiny house made of twigs, a cave with a {color} curtain for a door, a patch of tall grass near the
    pond, a hidden corner of the garden, a basket by the kitchen stove, a crooked shed behind the
    farmhouse, a tree house made of old boards, a clearing deep in the woods, a teapot at the bottom of
    the garden, a shady valley full of ferns, a heap of hay in the stable, a quiet bay with white sand, a
    thicket of {berry} bushes""")
HOMES_FOLK = _words("""
    a small house with a {color} door, a cottage at the end of a winding lane, a tall house beside the
    {shop}, a village at the foot of a mountain, a busy town by the sea, a farmhouse with a {color} barn, a
    lighthouse on a rocky island, a little apartment above the {shop}, a house with a crooked chimney, a
    quiet street lined with {tree} trees, a wooden cabin in the forest, a narrow house on the hill, a boat
    on the river, a castle with seven towers, a windmill in the middle of a field, a little house with a
    thatched roof, a caravan painted {color} and {color}""")

# ---------------------------------------------------------------------------------------------- the things

TOYS = _words("""
    kite, ball, doll, teddy bear, toy boat, toy train, rocking horse, puzzle, drum, spinning top, marble,
    puppet, toy car, balloon, jump rope, paper plane, hoop, whistle, toy robot, toy rabbit, yo-yo, wooden
    duck, jigsaw, kaleidoscope, rag doll, toy truck, boomerang, beach ball, wooden sword, toy castle,
    frisbee, stuffed bear, pinwheel""")
TREASURES = _words("""
    key, ring, coin, necklace, shell, feather, pebble, crystal, locket, pocket watch, compass, lantern,
    mirror, pearl, bell, medal, crown, map, box, bracelet, brooch, button, book, letter, music box,
    telescope, magnifying glass, thimble, ruby, emerald, stone, notebook, fan, star charm, snow globe,
    seashell, jewel, hourglass, paintbrush, spyglass""")
CLOTHES = _words("""
    hat, scarf, mitten, coat, boot, sock, cap, umbrella, backpack, blanket, ribbon, slipper, sweater,
    glove, cape, apron, vest, bonnet, shoe, raincoat, shawl, bow tie, pillow, belt, jacket""")
MUSIC = _words("""
    drum, flute, trumpet, guitar, violin, harp, tambourine, accordion, horn, banjo, harmonica, fiddle,
    xylophone""")
BREAKABLE = _words("""
    vase, cup, teapot, plate, bowl, jug, lamp, clock, music box, snow globe, flowerpot, model ship,
    mirror, sugar bowl, picture frame, candlestick, glass bird, cookie jar, birdhouse, lantern, piggy
    bank, saucer, chair, toy train""")
RIDES = _words("""
    scooter, bicycle, wagon, sled, cart, wheelbarrow, raft, rowboat, sailboat, canoe, train, bus, hot air
    balloon, tractor, tricycle, truck, ferry, sleigh, steamboat, carriage""")
GEAR = _words("""
    ladder, rope, bucket, shovel, hammer, basket, broom, jar, net, pan, kettle, flag, saddle, pencil,
    paint box, flashlight, fishing rod, candle, watering can, rake, hourglass, wheel, spoon, ladle,
    needle, saw, swing, stool""")
COLORS = _words("""
    red, blue, green, yellow, orange, purple, pink, white, black, brown, golden, silver, gray, turquoise,
    scarlet, violet, crimson, teal""")
LOOKS = _words("""
    shiny, tiny, old, wooden, little, big, beautiful, striped, spotted, sparkling, bright, special, magic,
    fine, new, round, lovely, pretty, dusty, painted, colorful, strange, smooth, crooked, fancy, plain,
    soft, heavy, glowing, worn, rusty, patched, polished, glittering, polka-dot, homemade, favorite,
    precious""")

CAKES = _words("""
    cake, pie, loaf of bread, tart, pudding, batch of muffins, batch of cookies, stack of pancakes, pot of
    soup, pizza, tray of cupcakes, pot of jam, plate of waffles, gingerbread house, pan of brownies, bowl
    of porridge, tray of buns, pot of stew, lemon cake, apple pie, cherry tart, carrot cake, basket of
    rolls, honey cake""")
SNACKS = _words("""
    apple, pear, plum, cookie, sandwich, muffin, bun, peach, cupcake, banana, carrot, slice of cake,
    pancake, doughnut, cheese roll, piece of pie, jam tart, orange, lollipop, pretzel, biscuit, waffle,
    honey cake, bowl of berries, bag of nuts, bag of popcorn""")
INGREDIENTS = _words("""
    flour, sugar, butter, honey, milk, cinnamon, salt, cream, jam, nuts, raisins, eggs, oats, vanilla,
    cocoa, cheese, berries, lemons, apples, ginger""")
PLANTS = _words("""
    sunflower, rose, tulip, pumpkin, bean, tomato, daisy, cherry tree, apple tree, lily, carrot, melon,
    strawberry plant, poppy, bluebell, pear tree, pea plant, lemon tree, iris, watermelon, daffodil, oak
    tree, marigold""")
TREES = _words("""
    oak, pine, willow, birch, maple, apple, cherry, chestnut, elm, beech, fir, plum, walnut, ash, cedar,
    hazel""")
FLOWERS = _words("""
    daisies, roses, poppies, bluebells, tulips, buttercups, violets, lilies, sunflowers, dandelions,
    daffodils, pansies, clover, lavender, snowdrops, marigolds, forget-me-nots, primroses, irises,
    cornflowers""")
BIRDS = _words("""
    robin, sparrow, blackbird, thrush, finch, swallow, cuckoo, lark, woodpecker, magpie, dove, seagull,
    crow, owl, wren, nightingale, starling, pigeon, jay, goldfinch, hummingbird""")
BUGS = _words("""
    bee, butterfly, ladybug, dragonfly, grasshopper, beetle, moth, cricket, spider, ant, snail,
    caterpillar, bumblebee""")
BERRIES = _words("blackberry, raspberry, blueberry, strawberry, gooseberry, cranberry, elderberry")

# (preposition, place): "in the old forest"
PLACES = tuple(
    (entry.split(" ", 1)[0], entry.split(" ", 1)[1])
    for entry in _words("""
    in the old forest, in the park, by the river, on the green hill, at the beach, in the meadow, by the
    pond, in the garden, in the village square, at the market, near the windmill, by the lighthouse, in
    the orchard, at the farm, in the barn, behind the school, on the playground, in the attic, in the
    cellar, at the edge of the woods, by the waterfall, on the sandy shore, in the valley, near the old
    bridge, in the cave, by the lake, in the wheat field, on the mountain, in the jungle, at the harbor,
    near the railway station, in the library, in the castle yard, on the island, by the stream, in the
    pumpkin patch, in the rose garden, at the zoo, in the snowy field, by the well, in the museum, at the
    fair, near the old mill, in the treehouse, by the campfire, on the riverbank, in the vegetable garden,
    at the bakery, in the toy shop, in the desert, by the frozen lake, in the bamboo grove, on the cliff,
    in the greenhouse, by the duck pond, at the crossroads, in the cherry orchard, by the stone wall, in
    the marsh, on the moor, in the hay field, behind the church, in the courtyard, at the circus, in the
    ruined tower, on the wooden pier, by the fountain, in the sunflower field, in the pine forest, in the
    apple orchard""")
)
SPOTS = _words("""
    under a bush, behind a big rock, high up in a {tree} tree, inside a hollow log, at the bottom of a
    puddle, under the bridge, in a bird's nest, between two stones, beneath a pile of leaves, on the roof
    of a shed, behind a barrel, in a clump of {flowers}, under a bench, inside an old boot, in a rabbit
    hole, on top of a haystack, behind the curtain, in the tall grass, under a wheelbarrow, beside a mossy
    stump, in a tangle of ivy, at the foot of the stairs, in a bucket of rainwater, under a heap of hay,
    behind the woodpile, in the fork of a branch""")
SKILLS = _words("""
    swim, ride a bicycle, fly a kite, play the flute, whistle, skate on the ice, draw a horse, read, count
    to a hundred, tie a bow, dance, climb a rope, juggle, sing, bake bread, paint, write a letter, jump
    rope, do a cartwheel, catch a ball, row a boat, knit a scarf, play the drum, build a fence, tell the
    time, walk on stilts, make a paper crane, play chess, dive, hop on one leg, spin a top, throw a hoop,
    sew a button, ski, play the violin, whittle a spoon, stand on one hand, roar, fly, tell a joke, sail a
    boat""")
GAMES = _words("""
    hide-and-seek, tag, marbles, hopscotch, catch, leapfrog, pirates, kings and queens, follow the leader,
    cards, explorers, checkers, knights and dragons, ball, tug-of-war, musical chairs, skittles, treasure
    hunt, dominoes, blindman's buff""")
HOBBIES = _words("""
    painting pictures, collecting shells, climbing trees, reading books, picking flowers, playing music,
    telling jokes, watching the clouds, splashing in puddles, singing songs, building towers, counting
    stars, digging holes, flying kites, baking cookies, dancing in the rain, chasing butterflies, drawing
    maps, making friends, solving puzzles, exploring new places, listening to stories, looking at the
    moon, skipping stones, planting seeds, rolling down hills, hunting for treasure, playing
    hide-and-seek, jumping over logs, catching snowflakes, whistling tunes, sailing paper boats, feeding
    the birds, asking questions, dressing up, inventing things, swinging on branches, making mud pies,
    gathering acorns, writing poems""")
JOBS = _words("""
    sweep the floor, feed the chickens, wash the dishes, water the plants, fetch the milk, pick some
    apples, carry the firewood, mend the fence, set the table, gather the eggs, fold the laundry, rake the
    leaves, polish the windows, walk the dog, pull the weeds, deliver a letter, buy some bread, brush the
    pony, close the gate, light the lamps""")
SOUNDS = _words("""
    creak, thump, tap, rattle, squeak, hoot, rustle, howl, bump, scratching noise, whisper, clatter,
    rumble, click, knock, groan, moan, hiss, clank, patter""")
CAUSES = _words("""
    a branch tapping on the window, a mouse nibbling a crust of bread, the wind blowing through the
    keyhole, an owl sitting on the roof, a loose shutter swinging in the wind, a kitten chasing a ball of
    yarn, a hedgehog looking for its supper, a frog that had lost its way, a curtain flapping in the
    breeze, the old clock in the hall, a raccoon searching for crumbs, an acorn rolling across the roof, a
    moth bumping against the lamp, a little bat who could not sleep, a leaky tap dripping into a tin pail,
    a wet cat asking to come in""")
GADGETS = _words("""
    a machine that could water flowers, a kite as large as a barn door, a bridge made of string, a boat
    made of barrels, a hat that could hold an umbrella, a bell that rang by itself, a slide that went
    around corners, a swing for two, a lamp made of fireflies, a wagon with a sail, a machine that
    buttered toast, a ladder that could fold, a scooter with four wheels, a trap for catching shadows, a
    clock that sang, a rocket made of cardboard, a pair of wooden wings, a robot made of tin cans, a
    telescope made of paper, a bed that rocked itself""")
WISHES = _words("""
    a new bicycle, a pair of wings, a puppy, a mountain of candy, a crown, a pony, a ship with white
    sails, a friend, a magic wand, a castle, a garden full of roses, a hundred toys, a warm coat, a
    telescope, a ride on a cloud""")
GIFTS = _words("""
    a painted stone, a necklace of {flowers}, a card with a poem, a little song, a paper star, a crown of
    leaves, a picture of the two of them, a jar of {berry} jam, a wooden whistle, a scarf of soft wool, a
    string of shells, a cushion stuffed with feathers, a kite made of old newspapers, a little book of
    stories, a candle made of beeswax, a puppet made from a sock, a basket woven of reeds, a box covered
    with buttons""")
SHOPS = _words("""
    bakery, toy shop, post office, bookshop, candy store, fish market, flower shop, hat shop, school,
    library""")
TREATS = _words("""
    strawberry jam, warm bread, carrot soup, honey on toast, roasted chestnuts, apple pie, hot chocolate,
    cheese, mashed potatoes, pancakes, noodles, ripe plums, corn on the cob, sweet melon, pumpkin soup,
    blueberry muffins, peanut butter, spaghetti, ice cream, tomato soup, dumplings, rice pudding, lemonade""")

# -------------------------------------------------------------------------------------- words drawn afresh

FRESH: dict[str, tuple[str, ...]] = {
    "happy": _words("""
        happy, glad, cheerful, joyful, delighted, pleased, merry, very happy, so happy, full of joy,
        overjoyed"""),
    "sad": _words("""
        sad, unhappy, gloomy, miserable, very sad, upset, heartbroken, glum, downhearted, disappointed"""),
    "scared": _words("scared, afraid, frightened, nervous, worried, terrified, anxious, alarmed, uneasy"),
    "cross": _words("angry, cross, mad, grumpy, annoyed, furious, upset, sulky"),
    "proud": _words("proud, very proud, so proud, as proud as a peacock, happy and proud, strong and proud"),
    "tired": _words("tired, sleepy, worn out, weary, very tired, drowsy, exhausted"),
    "lonely": _words("lonely, alone, very lonely, so lonely, sad and lonely"),
    "excited": _words("""
        excited, thrilled, eager, very excited, so excited, full of hope, too excited to sit still"""),
    "ashamed": _words("ashamed, guilty, sorry, terrible, very sorry, awful, embarrassed"),
    "said": _words("said, said, said, said, said, said, said, said, declared, remarked"),
    "replied": _words("replied, answered, said, said"),
    "asked": _words("asked, asked, asked, asked, asked, inquired"),
    "cried": _words("cried, cried, shouted, called, exclaimed, yelled, squealed, called out"),
    "whispered": _words("whispered, whispered, murmured, mumbled, muttered, sighed"),
    "laughed": _words("laughed, giggled, chuckled, grinned"),
    "how": _words("""
        softly, kindly, gently, quietly, warmly, cheerfully, calmly, with a smile, politely, wisely,
        patiently"""),
    "quickly": _words("""
        quickly, swiftly, at once, right away, in a flash, as fast as {he} could, without delay, hurriedly"""),
    "slowly": _words("slowly, slowly, carefully, bit by bit, patiently, cautiously"),
    "ran": _words("ran, hurried, rushed, dashed, raced, scampered, sped, skipped, galloped, darted, bounded"),
    "walked": _words("walked, walked, walked, wandered, strolled, marched, trotted, hiked, hopped"),
    "looked": _words("looked, searched, hunted, peeked, peered, checked, rummaged"),
    "saw": _words("saw, noticed, spotted, discovered, found, spied, came upon, caught sight of"),
    "big": _words("big, huge, large, enormous, great, giant, mighty, gigantic"),
    "small": _words("small, tiny, little, wee, teeny"),
    "nice": _words("""
        lovely, wonderful, beautiful, splendid, marvelous, delightful, perfect, charming, pleasant"""),
    "dark": _words("dark, dark, gloomy, shadowy, dim"),
    "sunny": _words("""
        sunny, bright, warm, fine, clear, breezy, cool, crisp, misty, golden, cloudy, quiet, windy,
        frosty, peaceful, chilly, hot, rainy"""),
    "daypart": _words("morning, morning, afternoon, day, evening, Saturday, Sunday, Monday, Tuesday, Friday"),
    "day": _words("""
        day, morning, afternoon, evening, spring morning, summer day, autumn afternoon, winter morning,
        Saturday, spring afternoon, summer evening, autumn day, Sunday morning, Wednesday, Friday
        afternoon, night in May, day in June"""),
    "color": COLORS,
    "look": LOOKS,
    "hobby": HOBBIES,
    "treat": TREATS,
    "tree": TREES,
    "flowers": FLOWERS,
    "bird": BIRDS,
    "bug": BUGS,
    "berry": BERRIES,
    "shop": SHOPS,
    "job": JOBS,
    "game": GAMES,
    "gift": GIFTS,
    "ingredient": INGREDIENTS,
    "animal": WOODLAND + FARM + FARAWAY,
    "object": TOYS + TREASURES + CLOTHES + GEAR,
    "sang": _words("sang, chirped, whistled, called, twittered, trilled, cooed, warbled"),
    "number": _words("two, three, four, five, six, seven, eight, nine, ten, a dozen, twenty"),
    "body": _words("""
        big brown eyes, a long tail, soft ears, a loud laugh, freckles on {his} nose, bright green eyes, a
        curly tail, tiny feet, a warm smile, a crooked smile, rosy cheeks, long legs, a round belly, a
        squeaky voice, quick little feet, a wobbly walk, a spot on {his} forehead, messy hair, a gentle
        voice, a head full of ideas"""),
    "habit": _words("""
        said good morning to everybody, helped the old {animal} carry the shopping, hummed a little tune,
        shared a joke, waved at the {bird+}, fed the ducks, counted the clouds, swept the steps, looked
        for {flowers}, made up a new song, practiced a new dance, wrote in a tiny diary, ran around the
        pond {number} times, read a chapter of a book, ate {treat} for breakfast, asked a hundred
        questions, visited the {shop}"""),
    "smell": _words("""
        rain, fresh grass, pine needles, warm bread, {flowers}, wet leaves, the sea, honey, wood smoke,
        apples, hay, cinnamon, mint, ripe berries, summer, damp earth"""),
    "weather": _words("""
        the sun was shining, the sky was blue, a soft wind was blowing, the clouds looked like sheep,
        leaves were dancing in the wind, the grass was wet with dew, the {bird+} were singing, the air was
        cool and fresh, everything was quiet, the bees were buzzing, the puddles were shining, a rainbow
        hung over the hills, fog covered the fields, the {flowers} were in bloom"""),
    "doing": _words("""
        taking a nap, chasing its tail, having a snack, looking for its breakfast, singing to itself,
        hanging out the washing, mending a net, reading the newspaper, sweeping the path, painting a
        fence, washing its face, practicing the trumpet, carrying a heavy sack, digging a hole, drinking
        tea, dancing on one leg, knitting a sock"""),
    "wow": _words("Wow, Oh, Oh my, Hooray, Look, Goodness, Hey, My goodness, Oh boy, Good heavens, Listen"),
    "ohno": _words("Oh no, Oh dear, Goodness me, Alas, Oh my, Oh bother"),
    "yes": _words("Yes, Of course, Certainly, Sure, Gladly, With pleasure, Yes, All right"),
    "thanks": _words("""
        Thank you, Thank you so much, Thanks, Many thanks, Thank you very much, A thousand thanks"""),
    "night": _words("""
        the stars came out, the moon rose, the sun went down, the sky turned pink, the owls began to hoot,
        the lamps were lit, the crickets began to sing, it grew dark, bedtime came"""),
    "nodded": _words("nodded, smiled, waved, winked"),
    "ordinal": _words("third, fourth, fifth, sixth, seventh, tenth, twelfth, twentieth, hundredth"),
    "beauty": _words("""
        a ripe plum, a shining stone, a golden apple, a {color} feather, a glittering shell, a {look}
        {object}"""),
    "snack": SNACKS,
    "shy": _words("shy, bashful, timid, nervous, foolish, small"),
    "praise": _words("""
        Well done, Good job, That was very brave, How clever you are, I am proud of you, What a good idea,
        You are a true friend, You did it, That was kind of you, Bravo"""),
}

# ------------------------------------------------------------------------------------------- the sentences

OPENINGS = _lines(r"""
    Once upon a time, there was {a_hero} named {hero}.
    Once upon a time, there was {a_hero} named {hero}. {He} lived in {home}.
    Once upon a time, in {home}, there lived {a_hero} named {hero}.
    Once upon a time, {a_hero} named {hero} lived in {home}.
    Once upon a time, {hero}, {a_hero}, lived in {home}.
    Once there was {a_hero} [called|named] {hero} who loved {hobby}.
    Long ago, [far, far away|in a faraway land|when the world was young], there lived {a_hero} named
        {hero}.
    {Hero} was {a_hero} who lived in {home}.
    {Hero} was {a_hero}. {He} [loved|liked] {hobby} [more than anything|very much|best of all].
    There was once {a_hero} whose name was {hero}.
    This is the story of {hero}, {a_hero} [who lived in {home}|who loved {hobby}].
    In {home}, there lived {a_hero}. {His} name was {hero}.
    [Have you heard|Do you know] the story of {hero}, the {adj} {kind}? {He} lived in {home}.
    Everybody {at} knew {hero}, the {adj} {kind}.
    A long time ago, {a_hero} named {hero} lived in {home}.""")
DETAILS = _lines(r"""
    {He} had {body} and {body}.
    {He} [loved|liked|enjoyed] {hobby}, [but {he} also loved|and {he} was [very |]good at] {hobby}.
    {His} favorite [food|thing to eat|treat] was {treat}, and {his} favorite color was {color}.
    Every [morning|day|evening], {he} {habit}.
    {He} had [a {look} {object}, a {color} {object}|a {color} {object}] and {number} {color} buttons.
    {He} was [always|often|very] {adj}, and everyone [liked|loved] {him} [for it|very much|dearly].
    [When the sun was shining|On rainy days|In winter|In summer|After supper], {hero} loved {hobby}.
    {His} neighbor was an old {animal} who loved {hobby}.
    {He} lived with {elder}, who made the best {treat} in the [whole |]world.
    {He} could not [whistle|count very far|sit still], but {he} could [hop|dance|laugh|sing|run] better
        than any {animal}.""")
ASIDES = _lines(r"""
    A {bird} {sang} in [a|the] {tree} tree.
    The air smelled of {smell}[ and {smell}|].
    Far away, a {animal} was {doing}.
    A {animal} was {doing} [nearby|by the road|in the shade], and it {nodded} [at|to] {hero}.
    A {color} {bug} landed on {his} [nose|shoulder|foot|hand] and [flew away again|tickled {him}|rested
        there for a while].
    There were {flowers} and {flowers} everywhere.
    The {tree} trees [swayed|rustled|whispered] in the wind.
    {Hero} passed a {small} {shop} and a {big} {tree} tree.
    A {color} cloud drifted by, shaped like a {object}.
    {Number} {bird+} flew [over the trees|across the sky|past the chimney].
    Somewhere, a bell rang {number} times.
    {He} counted {number} {animal} tracks [in the mud|in the sand|on the path].
    The ground was covered with {flowers}, and {weather}.""")
MORALS = _lines(r"""
    {Hero} [had learned|learned] that {lesson}.
    [From then on|From that day on|After that], {hero} [knew|always remembered|never forgot] that
        {lesson}.
    And that is how {hero} learned that {lesson}.
    {Hero} [smiled|nodded|thought about it]. Now {he} knew that {lesson}.
    [Before {he} fell asleep|As {he} closed {his} eyes], {hero} thought, "I will remember that
        {lesson}."
    That [night|evening], {elder} said, "You see, {hero}, {lesson}."
    The moral of [the|this] story is that {lesson}.""")
ENDINGS = (
    *_lines(r"""
    [From that day on|After that|Ever since], {hero} and {friend} were [best friends|the best of
        friends|always together].
    And {hero} and {friend} lived happily ever after.
    {Hero} and {friend} [laughed|smiled|hugged] and went home [together|hand in hand|side by side] for
        {treat}.
    That night, {hero} slept [well|soundly|like a log] and dreamed of [{friend}|{hobby}|{flowers}|a
        {object}|{place}].
    [It had been a {nice} day|It had been the most {nice} day of all].
    Then {they_two} ate {treat} and [watched the stars|told stories|sang songs|laughed] until {night}.
    {Hero} went to bed {happy}. The end.
    When {night}, {they_two} [sat|rested] {at} and [felt|were] {happy}.
    And if you ever [walk|go|come] {past_place}, you may [still |]see {hero} and {friend} playing {game}
        there.
    The end."""),
    "",
    "",
)

# One plot after another. "# name"; then "@key value" lines: ask (what a listener may ask for), lesson, things
# (the lists that {thing} is drawn from), qa (question => answer). Then beats, parted by blank lines: a line is one
# wording, an indented line goes on with the one before, "?" first marks a beat that may be left out, and "---"
# ends a paragraph.
PLOT_BOOK = r"""
# lost and found
@ask a lost {noun}
@ask somebody who lost a {noun}
@ask a {kind} who lost {his} {noun}
@things toys treasures clothes music
@lesson it is good to ask a friend for help
@lesson you should never give up looking
@lesson a friend who helps you is worth more than a {noun}
@lesson it is wise to take care of your things
@qa What did {hero} lose? => {He} lost {his} {thing}.
@qa Where was the {noun}? => It was {spot}.
@qa Who found the {noun}? => {Friend} helped {hero} find it {spot}.
{Hero} had a {thing}. It was {his} favorite thing in the [whole |]world, and {he} took it everywhere.
On {his} birthday, {elder} gave {hero} a {thing}. {He} [loved it|was {happy}|would not let it go].
The thing that {hero} loved most was {his} {thing}. {He} even slept with it under {his} pillow.

One {sunny} {daypart}, {hero} was playing {at}. When {he} [stopped|turned around|sat down to rest], the {noun}
    was gone!
One {day}, {he} took the {noun} along {at_place}. But on the way home, {he} [saw|found] that it was
    [gone|missing].
One {day}, {hero} woke up and the {noun} was not there. "Where is my {noun}?" {he} {cried}.

"{Ohno}! I have lost my {noun}!" {cried} {hero}. {He} felt {sad}.
{He} {looked} here and {he} {looked} there, but {he} could not find it. {He} was {sad}.
"{Ohno}!" {he} {whispered}. "My {noun} is gone." A tear rolled down {his} cheek.

?{Hero} {looked} under the bed and behind the door. {He} {looked} in every [basket|drawer|corner]. There was
    no {noun}.
{He} asked a {beast}, but the {beast} had not seen any {noun}.

---
Just then, {pal} came by. "Why are you so [sad|quiet|worried]?" {asked} {friend}.
{Pal} [heard {him} crying|saw that something was wrong]. "What is the matter, {hero}?" {fhe} {asked}.
{He} {ran} to {pal}. "Please help me," {he} {said}. "I cannot find my {noun} anywhere."

"I lost my {noun}," said {hero}. "{Yes}, I will help you look," {replied} {friend} {how}.
"My {thing} is lost," {hero} told {fhim}. "Do not [cry|worry]," said {friend}. "Two can look better than one."
"When did you last have the {noun}?" {asked} {friend}. {Hero} [thought hard|closed {his} eyes and thought].
    "{At}," {he} {said}.

Together, they went back {at_place}. They {looked} [under every leaf|behind every tree|in every corner|all
    afternoon].
So {they_two} {looked} high and low. {aside}
They {walked} {slowly} and looked [left and right|at the ground|into every hole]. {aside}

Then {friend} {saw} something {color} {spot}. It was the {noun}!
All at once, {hero} saw something {spot}. "{Wow}! There it is!" {he} {cried}. It was {his} {noun}.
"{Wow}!" {cried} {friend}. "Is that your {noun}, {spot}?" It was!

---
{Hero} hugged the {noun}, and then {he} hugged {friend}. "{Thanks}!" {he} {said}. {He} was {happy} [again|at
    last].
"{Thanks}, {friend}!" {laughed} {hero}. {He} held the {noun} tight. {He} felt {happy}.
{Hero} was {happy}. {He} [let {friend} play with the {noun} all day|gave {friend} a {snack} to say thank you].

# sharing
@ask sharing
@ask a {kind} who would not share
@ask a {noun} and learning to share
@things toys rides
@lesson sharing makes everything more fun
@lesson a {noun} is more fun with a friend
@lesson it is better to share than to be alone
@lesson when you share, you get more than you give
@qa Why was {friend} sad? => {Friend} was sad because {hero} did not want to share the {noun}.
@qa What did {hero} share? => {He} shared {his} {thing} with {friend}.
One {day}, {elder} gave {hero} a {thing}. {Hero} was {excited}. {He} took it {at_place} to play.
{Hero} had a new {thing}. "It is all mine!" {he} said {how}. {He} played with it {at} every day.
{Hero} got a {thing} for {his} birthday. It was the {look} {noun} {he} had always wanted.

{Pal} came to see it. "What a {nice} {noun}!" {said} {friend}. "May I play with it too?"
Soon {pal} came along. {Friend} looked at the {noun}. "Can I have a turn, please?" {fhe} {asked}.
"{Wow}!" {cried} {newpal}. "I have never seen such a {nice} {noun}. Can we play together?"

"No!" said {hero}. "It is mine. You [might|will] break it." {Friend} was {sad} and {walked} away.
{Hero} held the {noun} tight. "No, I want to play alone," {he} said. {Friend} felt {sad}.
But {hero} did not want to share. {He} turned {his} back. {Friend} {whispered}, "I only wanted to play."

---
{Hero} played alone. But after a while, it was [boring|not fun|very quiet]. {He} felt {lonely}.
So {hero} played all by {himself}. There was nobody to laugh with and nobody to play {game} with. {He} felt
    {lonely}.
At first it was fun. Then {he} [looked up and|] saw {friend} sitting {spot}, {sad}. {Hero} felt {ashamed}.

?{aside} "What is a {noun} without a friend?" thought {hero}.
{Elder} saw {him} and {said}, "A {noun} is nice, but a friend is nicer."

{Hero} thought about it. Then {he} {ran} to {friend}. "I am sorry," {he} {said}. "Do you want to play with my
    {noun}?"
{He} took the {noun} and {walked} over to {friend}. "Here, it is your turn," {he} said {how}. "I am sorry I
    was mean."
At last, {he} went to {friend}. "Please forgive me," {he} {said}. "Let us play with the {noun} together."

"{Yes}!" {cried} {friend}. {Fhe} smiled, and {they_two} played until {night}.
{Friend} was {happy}. "{Thanks}!" {fhe} {said}. They took turns and laughed [all day|until their bellies
    hurt].
{Friend} [jumped for joy|clapped {fhis} hands|gave {him} a hug]. They played and played, and it was the most
    {nice} day.

# the storm
@ask a storm
@ask a {kind} caught in a storm
@ask thunder and lightning
@ask a rainy day
@lesson a storm is not so scary when you have a friend
@lesson after the rain comes the sun
@lesson being brave means being kind even when you are afraid
@lesson friends keep each other safe
@qa Where did they hide from the storm? => They hid {shelter}.
@qa What did they see after the storm? => They saw a rainbow in the sky.
@qa What was {hero} afraid of? => {He} was afraid of the storm.
One {day}, {hero} went {at_place} to [play|pick {flowers}|look for berries|fly a kite]. {Weather}.
{Hero} was [playing|walking|resting] {at} with {pal}. At first, {weather}.
One {day}, {hero} and {pal} planned a picnic {at}. They took {treat} and a {color} blanket.

But then {big} clouds rolled over the sky. The wind began to [blow|howl|roar], and it grew {dark}.
Suddenly, the sky turned {dark}. Drops of rain fell, first one, then {number}, then a thousand.
Then the wind grew strong. It [shook the trees|pulled at {his} ears|threw leaves into the air]. A storm was
    coming!

Boom! went the thunder. {Hero} was {scared}. "{Ohno}! What shall I do?" {he} {cried}.
Lightning flashed and thunder rumbled. {Hero} began to shake. {He} was {scared}.
"Crash!" went the thunder. The rain came down like [a river|a waterfall|peas on a drum], and {hero} was wet
    from head to toe.

---
"Over here!" {cried} {friend}. "Come and hide {shelter}!" {Hero} {ran} [to {fhim}|there] as fast as {he}
    could.
Then {he} heard a voice. It was {pal}. "Come quickly! We can hide {shelter}," {fhe} {said}.
{Hero} saw {friend}, who was {scared} too. "Come with me," {said} {hero}. "We will be safe {shelter}."

There it was [warm and dry|small but dry|safe and quiet]. They sat [close together|side by side] and listened
    to the rain.
{They_two} sat {shelter} and held hands. Each time the thunder rumbled, they counted to {number}.
"Let us sing a song," said {friend}. So they sang {slowly} at first and then louder than the storm.

?"Are you still afraid?" {asked} {friend}. "A little," {said} {hero}, "but not so much with you here."
They told each other [jokes|stories] and shared {a_snack}. {aside}
"Did you know," said {friend}, "that the {flowers} are thirsty and love the rain?" {Hero} had not thought of
    that.

At last, the rain stopped. The sun came out, and a {big} rainbow stretched over {place}.
After a while, the storm went away. {They_two} looked out. There was a rainbow with all the colors, from red
    to violet!
Then it was quiet. The clouds flew off, and drops of water shone on every leaf. "{Wow}! A rainbow!" {cried}
    {hero}.

They [jumped in the puddles|danced in the wet grass|splashed all the way home], and {hero} was {happy}.
"{Thanks}, {friend}," {said} {hero}. "With you, I was brave." {Friend} smiled. "So was I," {fhe} {said}.
{Hero} {laughed}. "The storm was loud, but we were louder!" {he} {said}.

# a good turn
@ask helping somebody
@ask a {beast} in trouble
@ask a {kind} who helps a {beast}
@ask kindness
@lesson kindness always comes back to you
@lesson even a small friend can be a great help
@lesson nobody is too small to help
@lesson one good turn deserves another
@qa Who did {hero} help? => {He} helped a {beast} that was stuck.
@qa How did the {beast} thank {hero}? => The {beast} came back and helped {hero} when {he} was in trouble.
One {sunny} {daypart}, {hero} {walked} {at_place}. {aside}
One {day}, {hero} was on {his} way {at_place} when {he} heard a {small} voice. "Help! Help!" it {cried}.
{Hero} was {hobby} {at} when {he} heard somebody crying.

{He} looked around and {saw} a {beast}. Its foot was [stuck|caught] {spot}.
There was a {beast}, and it was stuck {spot}. It could not [move|get out|get free].
A {beast} sat there, {sad}. "I fell down and now I am stuck," it {whispered}.

"Do not be afraid," said {hero} {how}. "I will help you." {He} [pulled and pushed|tugged and pulled|pulled
    with all {his} might] until the {beast} was free.
"Please help me," {said} the {beast}. Some others had gone by, but {hero} stopped. {Slowly}, {he} set the
    {beast} free.
{Hero} was tired and in a hurry, but {he} knelt down. {He} found a {tree} branch and {slowly} lifted the
    {beast} out.

"{Thanks}!" said the {beast}. "One day I will help you too." {Hero} {laughed}. "You are so small! But that is
    kind," {he} said.
"{Thanks}!" {cried} the {beast}. "I will never forget this." And away it {ran}.
The {beast} bowed. "If you ever need me, just call," it {said}. Then it was gone.

---
{Number} days later, {hero} was {at} when {he} slipped and fell into a {big} hole. {He} called and called.
Not long after, {hero} got lost {at}. It was {dark}, and {he} was {scared}.
One {day}, {hero} {saw} {beauty} {spot} and reached for it. But {he} got stuck, and nobody was there.

"Is anybody there?" {he} {cried}. {aside}
{He} sat down and {whispered}, "If only somebody would come."
{He} tried and tried, but {he} could not do it alone.

Then {he} heard tiny steps. It was the {beast}, and it had brought {pal}!
But who was that? It was the {beast}! "You helped me," it said, "and now I will help you."
Just then the {beast} came by with {pal}. "I told you I would help you one day!" it {cried}.

Together, they [pulled|helped|led] {hero} out, and {he} was {happy} and safe [again|at last].
The {beast} [showed {him} the way|brought a long rope|called all its friends], and soon {hero} was safe.
They worked {slowly}, and soon {hero} was free. "{Thanks}!" {he} {said}. "You are small, but your heart is
    {big}."

# a new friend
@ask a new friend
@ask making friends
@ask a lonely {kind}
@ask a {kind} and a {fkind}
@lesson a friend may be waiting where you least expect it
@lesson you only need to say hello to make a friend
@lesson friends do not have to be the same
@lesson the best way to find a friend is to be one
@qa Who became {hero}'s friend? => {Pal} became {his} friend.
@qa What did they play? => They played {play} together.
@qa Why was {hero} sad at first? => {He} was sad because {he} had no friends.
{Hero} had just moved to a new home. {He} did not know anybody, and {he} felt {lonely}.
{Hero} had [many toys|a {thing}], but {he} had nobody to play with. Every day {he} sat {at}, {lonely}.
{Hero} wanted a friend more than anything. {He} looked for one {at}, but everybody was busy.

?{He} asked a {beast}, "Will you play with me?" But the {beast} was {doing} and shook its head.
"Perhaps nobody likes me," {he} {whispered}.
{Elder} said {how}, "Be patient, {hero}. A friend will come."

One {sunny} {daypart}, {he} {saw} {newpal} {at}. {Friend} was [sitting|playing|standing] all alone.
One {day}, {he} heard somebody singing {spot}. It was {newpal}.
Then one {day}, {newpal} came {at_place}. {Fhe} looked {sad}.

---
{Hero} was shy. {His} heart went thump, thump. But {he} took a deep breath and {said}, "Hello! My name is
    {hero}."
"Hello," {said} {hero} {how}. "What is your name?" "My name is {friend}," {fhe} {said}.
"May I sit with you?" {asked} {hero}. "{Yes}," {replied} the {fkind}. "I am {friend}."

"Do you like [playing {play}|{play}]?" {asked} {friend}. "{Yes}! I love {play}!" {cried} {hero}.
"I have nobody to play with," {said} {friend}. "Me too!" {cried} {hero}. "Shall we play {play}?"
"I am so glad that you are here," said {hero}. "Can we be friends?" {Friend} laughed. "{Yes}! Let us play
    {play}."

So they played {play} until {night}. {aside}
They played {play}, and {hero} laughed so much that {his} belly hurt.
{Friend} was good at {play}, and {hero} was good at {hobby}, so each could teach the other.

When it was time to go, {friend} gave {hero} a {thing}. "So that you remember me," {fhe} {said}.
"Will you come back tomorrow?" {asked} {hero}. "Tomorrow and every day," {said} {friend}.
{Hero} shared {a_snack} with {friend}. {He} was not lonely anymore. {He} was {happy}.

# learning
@ask learning to {skill}
@ask a {kind} who wanted to {skill}
@ask a {kind} who could not {skill}
@ask never giving up
@lesson if you keep trying, you will get better
@lesson nobody can do everything the first time
@lesson practice makes perfect
@lesson it is all right to make mistakes
@qa What did {hero} want to learn? => {He} wanted to learn to {skill}.
@qa Who taught {hero}? => {Friend} helped {him} learn to {skill}.
@qa Did {hero} give up? => No, {he} practiced every day until {he} could {skill}.
{Hero} wanted to [learn to|learn how to] {skill}. All {his} friends could do it, but {he} could not.
There was one thing {hero} wished for. {He} wanted to {skill}.
One {day}, {hero} saw {pal} {skill} {at}. "{Wow}! I want to learn that too!" {he} {cried}.

So {he} tried. But it [went wrong|did not work|was very hard]. {He} fell down with a bump.
{He} tried once, and {he} tried {number} times. Each time it went wrong. {Hero} was {sad}.
The first time {he} tried, [everybody laughed|{he} fell on {his} nose|it was a mess]. {Hero} felt {ashamed}.

"I will never learn to {skill}," {he} {whispered}. {He} sat down {spot}.
"I can't do it!" {he} {cried}. {He} felt {cross} and kicked a stone.
{He} wanted to give up. {aside}

---
{Pal} sat down next to {him}. "When I began, I could not {skill} either," {fhe} {said}. "I can show you how."
"Do not give up," said {friend} {how}. "I had to try {number} times before I could {skill}."
Then {pal} came. "Watch me," {fhe} {said}. "First you go {slowly}. Then you go a little faster."

So every {daypart}, {they_two} met {at} and practiced. {Slowly}, {hero} got better.
They practiced on {sunny} days and on {sunny} days. They practiced in the rain. Little by little, {hero} got
    better.
{Hero} practiced in the morning, and {he} practiced before bed. Even the {beast} next door came to watch.

Then one day, it happened. {Hero} could {skill}! "{Wow}! I did it! I did it!" {he} {cried}.
At last came the big day. {Hero} took a deep breath and tried again. And it worked! {He} could {skill}!
And on the {daypart} of the {ordinal} day, {he} could {skill} all by {himself}.

"{Praise}!" {cried} {friend}. {Hero} felt {proud}.
Everybody clapped. {Friend} clapped the loudest of all. {Hero} was {proud}.
{Elder} came to see. "{Praise}!" {ehe} {said}. {Hero} was {happy} and {proud}.

# the secret
@ask a secret
@ask a secret {noun}
@ask keeping a secret
@ask a hidden door
@things treasures
@lesson some secrets are safe with a friend
@lesson a promise to keep a secret is a serious thing
@lesson the world is full of wonders if you look closely
@qa What was behind the door? => There was {wonder} behind the door.
@qa Who knew the secret? => Only {hero} and {friend} knew the secret.
@qa How did {hero} open the door? => {He} opened it with a {thing}.
One {day}, {hero} was playing {at}. {He} {saw} a {thing} {spot}. {aside}
{Hero} loved to explore. One {day}, {he} found a {thing} {spot}. Whose could it be?
{Hero} was {hobby} {at} when {he} {saw} a {thing}.

Next to it was a {small} door that {he} had never seen before. It was covered with {flowers}.
{He} picked it up, and behind it there was a {small} {color} door in the wall!
When {he} touched the {noun}, it began to [shine|glow|hum]. A {small} door opened in front of {him}.

{He} {slowly} opened the door with the {noun}. Behind it was {wonder}!
The {noun} fitted into the lock. Click! The door opened, and there was {wonder}.
{Hero} held the {noun} up and knocked {number} times. The door swung open. {He} saw {wonder}.

?"{Wow}!" {he} {whispered}. "I have never seen anything so {nice}."
It was so {nice} that {hero} could not speak. {aside}

---
A {beast} sat there and {nodded}. "You have found our secret," it {said}. "Please do not tell everybody, or it
    will be gone."
"Who are you?" {asked} a {beast}. "This is a secret place. Can you keep a secret?" "{Yes}," {replied} {hero}.
An old {beast} looked at {him}. "You may come as often as you like," it {said}, "but you may tell only one
    friend."

It was hard to keep the secret. {Hero} wanted to tell the whole [village|world]. But {he} had promised.
At home, {elder} {asked}, "Where have you been?" {Hero} smiled. "That is a secret," {he} {said}.
{Hero} thought and thought. Who could keep a secret? Then {he} knew.

{He} {ran} to {pal} and {whispered} it into {fhis} ear. "I will not tell anyone," {said} {friend}.
{He} told only {pal}, who never told secrets.
So {he} took {friend} by the hand. "Close your eyes," {he} {said}. "Now open them!" "{Wow}!" {cried} {friend}.

Every {daypart}, they visited their secret place and played {game}. And nobody else ever knew.
{They_two} kept the secret for many years. It was the most {nice} secret in the world.
And to this day, {they_two} go there when the moon is full.

# the race
@ask a race
@ask a {kind} who wanted to win a race
@ask winning and losing
@ask a race between a {kind} and a {fkind}
@lesson helping a friend is better than winning
@lesson slow and steady wins the race
@lesson it does not matter who wins, as long as you do your best
@lesson it is more fun to finish together
@qa Who was in the race? => {Hero} and {friend} were in the race.
@qa Why did {hero} stop? => {He} stopped because {friend} had fallen down.
@qa What was the prize? => The prize was a {thing}.
@things treasures clothes
One {day}, there was a big race {at}. The winner would get a {thing}.
"There will be a race {at} tomorrow!" {cried} {elder}. "The prize is a {thing}."
Every year, there was a race {at}. {Hero} had always wanted to win the {thing}.

{Pal} wanted to win too. "I am faster than the wind," {said} {friend}. "You will never beat me!"
{Hero} was not the fastest, but {he} had practiced for weeks. {Pal} was very fast.
The {animal} came, and the {animal}, and {pal}. They all stood in a line. {Hero} was {excited}.

"Ready, set, go!" {cried} {elder}. Off they went!
A whistle blew, and everybody {ran}. {Hero}'s feet flew over the ground.
"One, two, three, go!" Dust flew up, and the crowd {cried}, "Run! Run!"

---
At first {friend} was in front. Then {hero} was in front. They {ran} past the {tree} tree and over the bridge.
{Hero} {ran} and {ran}. Soon only {friend} was ahead of {him}. {aside}
{They_two} were side by side. They jumped over a log and splashed through a stream.

Then {friend} tripped over a {object} and fell. "Ouch! My foot!" {fhe} {cried}.
Suddenly, there was a cry. {Friend} had fallen into a ditch and could not get up.
But {friend} slipped on a wet leaf and hurt {fhis} knee. {Fhe} {whispered}, "Go on without me."

{Hero} could see the finish line. {He} could win! But {he} looked back at {friend}, and {he} stopped.
What should {hero} do? If {he} stopped, {he} would lose. {Hero} did not think for long. {He} turned around.
"I want to win," thought {hero}, "but {friend} needs me." So {he} {ran} back.

"Hold on to me," {said} {hero} {how}. {Slowly}, they went on together, step by step.
{He} helped {friend} up, and they {walked} to the finish line together.
"Climb on my back," {said} {hero}. And so they crossed the finish line, last of all.

---
A {beast} had won the race. But everyone cheered the loudest for {hero}. "{Praise}!" they {cried}.
{Elder} had seen it all. {Ehe} gave the {thing} to {hero} and {friend}. "You are both winners," {ehe} {said}.
"You lost the race because of me," said {friend}. "No," {replied} {hero}, "I won a friend."

# the broken thing
@ask telling the truth
@ask a broken {vase}
@ask a {kind} who broke a {vase}
@ask honesty
@lesson it is always best to tell the truth
@lesson everybody makes mistakes, but it is brave to say so
@lesson a broken {vase} can be mended, and so can a mistake
@lesson telling the truth makes your heart feel light
@qa What did {hero} break? => {He} broke {elder}'s {vase}.
@qa How did they mend the {vase}? => They mended it with glue and patience.
@qa Was {elder} angry? => No, {elder} was glad that {hero} told the truth.
{Elder} had a {look} {vase}. It stood [on a shelf|on the table|by the window], and {ehe} loved it very much.
One {sunny} {daypart}, {hero} was playing {play} in the house, although {elder} had said not to.
One {day}, {hero} was alone at home. {He} wanted to look at {elder}'s {look} {vase}.

{Hero} [jumped|ran|spun around], and bump! The {vase} fell down and broke into {number} pieces.
{He} reached up for the {vase}. It slipped. Crash! It was broken.
Suddenly there was a crash. {Elder}'s {vase} lay on the floor in {number} pieces.

"{Ohno}!" {whispered} {hero}. {He} was {scared}. {He} hid the pieces {spot}.
{Hero} was {scared}. "If I hide it, nobody will know," {he} thought. So {he} swept the pieces under the rug.
{Hero}'s heart beat fast. What would {elder} say? {Quickly}, {he} pushed the pieces under the bed.

---
When {elder} came home, {ehe} {asked}, "Have you seen my {vase}?" {Hero} looked at {his} feet. "No," {he}
    {whispered}.
At supper there was {treat}, but {hero} could not eat. {His} belly hurt. {He} felt {ashamed}.
That night, {hero} could not sleep. {He} turned left and {he} turned right. {He} felt {ashamed}.

{He} went to {pal} and told {fhim} everything. "You must tell the truth," {said} {friend} {how}.
"You look {sad}," {said} {pal}. {Hero} told {fhim} what had happened. "Tell {elder}," {said} {friend}. "You
    will feel better."
"What should I do?" {he} asked {pal}. "I think you know," {said} {friend}.

So {hero} went to {elder}. "I broke your {vase}, and I hid it," {he} {said}. "I am so sorry."
{Hero} took a deep breath. "{Elder}, it was me," {he} {said}. "I broke the {vase}." Then {he} began to cry.
At last {he} could not bear it. {He} {ran} to {elder} and told the truth.

{Elder} was quiet for a moment. Then {ehe} hugged {him}. "Thank you for telling me the truth," {ehe} said
    {how}.
"I am a little sad about the {vase}," {said} {elder}, "but I am proud of you, because you were honest."
"A {vase} is only a {vase}," {said} {elder}. "But the truth is worth more than gold."

Together, they glued the pieces. The {vase} had {number} cracks now, but {hero} thought it was {nice}.
Then they got some glue and mended the {vase}. It was not as good as new, but it was good enough.
They fixed the {vase} {slowly}, piece by piece. {Hero} felt as light as a feather.

# baking
@ask baking
@ask a {cake}
@ask a {kind} who baked a {cake}
@ask a {kind} in the kitchen
@lesson even a mistake can turn out well
@lesson it is good to read the recipe twice
@lesson food tastes best when you share it
@lesson many hands make light work
@qa What did {hero} make? => {He} made a {cake}.
@qa What went wrong? => {Hero} used {wrong} instead of {right}.
@qa Who ate the {cake}? => {Hero}, {friend} and all the neighbors ate it together.
One {day}, {hero} wanted to make a {cake} for {elder}. {He} put on an apron and washed {his} hands.
It was {elder}'s birthday. "I will make a {cake}!" said {hero}.
{Hero} was hungry for something sweet. "Let us make a {cake}," {he} said to {pal}.

{He} took {ingredient}, {ingredient} and {right}, and a {big} bowl. {He} mixed and stirred.
{Pal} came to help. They put {ingredient}, {ingredient} and {ingredient} into a {big} bowl, and {hero}
    stirred.
First came the {ingredient}, then the {ingredient}, and then a spoon of {right}. There was flour on {his}
    nose!

But {Ohno}! {Hero} had taken {wrong} instead of {right}!
Then {he} tasted it. "Ugh!" {he} {cried}. "I used {wrong} instead of {right}!"
Suddenly {friend} {laughed}. "{Hero}, that is not {right}. That is {wrong}!"

---
"It is ruined," {whispered} {hero}. {He} was {sad}.
{Hero} wanted to throw it all away. {He} felt {cross}.
A tear fell into the bowl. "Now I have nothing," {said} {hero}.

"Wait," {said} {friend} {how}. "Let us add some {ingredient} and a little {ingredient}. Then we will see."
"Do not worry," {said} {friend}. "We can try again. There is still some {right} left."
"Do not give up," {said} {friend}. "The best cooks make the biggest mistakes. Let us put it in the oven and
    see."

So they stirred and waited. Soon the kitchen smelled {nice}. Even a {beast} put its nose through the window.
They worked {slowly} this time. They counted every spoon. Then it went into the oven. {aside}
They tried again, and soon the whole house smelled of {smell} and {smell}.

---
When it was done, they tasted it. It was the most {nice} {cake} they had ever eaten!
"Ready!" {cried} {hero}. The {cake} was golden and warm. {Elder} took a bite. "It is {nice}!" {ehe} {said}.
They invited {elder}, the {animal} and the {animal}. Everybody had a bite, and everybody wanted more.

# a noise in the night
@ask a noise in the night
@ask a {kind} who was afraid of the dark
@ask being afraid at night
@ask the dark
@lesson the dark is not so scary when you turn on a light
@lesson things are often less scary than they seem
@lesson being brave means looking even when you are afraid
@lesson there is nothing in the dark that is not there in the day
@qa What made the noise? => It was only {cause}.
@qa What was {hero} afraid of? => {He} was afraid of a noise in the night.
One night, {hero} lay in bed. The moon was shining, and everything was quiet. Then there was a {sound}.
{Hero} was afraid of the dark. Every night, {he} pulled the blanket over {his} head.
It was late, and {hero} could not sleep. Suddenly {he} heard a {sound}. Then {he} heard it again.

"What was that?" {he} {whispered}. {He} was {scared}. There was another {sound}!
{Sound}! {Sound}! It came from [behind the door|under the bed|above the roof|outside the window]. {Hero} was
    {scared}.
"Is it a monster?" thought {hero}. "Is it a {big} {animal} with {color} teeth?" {His} knees began to shake.

{He} wanted to call {elder}, but no sound came out of {his} mouth.
{He} hid under {his} blanket and hugged {his} {noun}. But the noise did not stop.
{He} counted to {number}. {He} counted to a hundred. The noise was still there.

---
{Hero} {ran} to {pal}, who [slept|lived] next door. "Wake up! There is a monster!" {he} {whispered}.
{Pal} was staying for the night. "Did you hear that?" {asked} {hero}. "Yes," {whispered} {friend}. "Let us
    look together."
Then {he} remembered what {pal} always said: "When you are afraid, turn on the light."

{Hero} took a {light} and {walked} {slowly} to the door. {His} heart went thump, thump.
"I must be brave," said {hero}. {He} lit a {light} and {walked} on tiptoe down the stairs.
With a {light} in {his} hand, {he} {slowly} opened the [window|door|curtain].

And what did {he} see? It was only {cause}!
There was no monster at all. It was {cause}.
"{Wow}!" said {hero}. The noise was {cause}!

{Hero} began to laugh. {He} laughed and laughed until {he} was {tired}. Then {he} went back to bed.
"Is that all?" {laughed} {hero}. In the morning, {he} told {friend}, and {they_two} laughed about it.
"Good night," said {hero}, and {he} was not {scared} anymore. Soon {he} was fast asleep.

# the promise
@ask a promise
@ask keeping a promise
@ask a {kind} who made a promise
@lesson a promise is a promise
@lesson you should always do what you say you will do
@lesson friends trust you when you keep your word
@lesson doing your duty makes play even sweeter
@qa What did {hero} promise? => {He} promised to {chore}.
@qa Did {hero} keep {his} promise? => Yes, {he} remembered in the end and kept {his} promise.
@qa Who wanted to play {play}? => {Pal} wanted to play {play}.
One {day}, {elder} had to go away. "Will you {chore} while I am gone?" {ehe} {asked}. "I promise," {said}
    {hero}.
"Please {chore} before bedtime," {said} {elder}. "{Yes}! I promise," {replied} {hero}.
{Hero} had promised {elder} to {chore}. "You can count on me," {he} had said.

But just then, {pal} came by. "Come and play {play} with me {at}!" {fhe} {cried}.
On the way, {he} met {pal}. "{Weather}," {said} {friend}. "Let us play {play}!"
{He} was about to begin when {pal} {cried}, "{Hero}! We are all playing {play}. Come quickly!"

{Hero} thought of {his} promise. "I can do it later," {he} said, and off {he} {ran}.
{Hero} loved {play}. "Just for a minute," {he} thought. But a minute became an hour.
"Well," said {hero}, "there is [plenty of|enough] time." And {he} {ran} after {friend}.

---
They played {play} {at}. {aside} It was {nice}, but something was wrong. {Hero} felt {ashamed}.
They played until the shadows grew long. Then {hero} stopped. "{Ohno}! My promise!" {he} {cried}.
In the middle of the game, {hero} heard a bell ring. "I forgot! I promised to {chore}!" {he} {cried}.

"You can do it tomorrow," {said} {friend}. "No," {replied} {hero}. "I gave my word."
"I have to go," {said} {hero}. "A promise is a promise." {Friend} {nodded}. "Then I will help you," {fhe}
    {said}.
"I am sorry," {said} {hero}. "I must keep my promise first." {Friend} understood.

{He} {ran} home and got to work. It was {dark}, and {he} was {tired}, but {he} did not stop until it was done.
{They_two} {ran} back. Together, it did not take long to {chore}.
{Quickly}, {he} went to {chore}. {He} was just done when {elder} came through the gate.

---
When {elder} came, {ehe} smiled. "{Praise}! You kept your promise," {ehe} {said}. {Hero} felt {proud}.
{Elder} gave {him} a {thing}. "This is for somebody who keeps {his} word," {ehe} {said}.
"Thank you, {hero}," said {elder} {how}. "Now you may play as long as you like." And {they_two} played {play}
    until {night}.

# the trip
@ask a trip
@ask a trip in a {ride}
@ask a journey {at_place}
@ask an adventure
@ask a {kind} who went on a journey
@lesson it is nice to see the world, and it is nice to come home
@lesson the best part of a trip is the friend who comes along
@lesson things do not always go as planned, and that is the fun of it
@lesson there is no place like home
@qa Where did {hero} go? => {He} went on a trip to {place}.
@qa How did they travel? => They traveled by {ride}.
@qa Who went along? => {Pal} went along.
One {sunny} {daypart}, {hero} said, "Let us go on a trip!" {Pal} thought it was a {nice} idea.
{Hero} had never seen {place}. "I want to go there," {he} told {pal}. "Will you come with me?"
{Elder} had an old {ride}. "You may borrow it," {ehe} {said} to {hero} and {pal}.

They packed {treat}, a {look} {object}, a {color} {object} and a map.
{Hero} packed a {thing} and {number} sandwiches. {Friend} packed {treat} and a {object}.
"What shall we take?" {asked} {friend}. "{Treat}, a {object} and our courage," {said} {hero}.

They climbed into the {color} {ride}, and off they went. {aside}
The {ride} went over hills and through valleys. They saw {number} {animal+} and a {animal} {doing}.
"Hold on tight!" {cried} {hero}. The {ride} rolled along, faster and faster. {aside}

---
Halfway there, the {ride} stopped with a {sound}. "{Ohno}! It is broken!" {cried} {friend}.
But then they took a wrong turn. "Are we lost?" {asked} {friend}. {Hero} looked at the map. It was upside
    down!
Suddenly it began to rain, and the road turned to mud. The {ride} was stuck!

A {beast} came along the road. "Can I help?" it {asked}. It [pushed|pulled] and they [pushed|pulled], and soon
    all was well.
"Do not worry," {said} {hero}. {He} took the {object} and fixed it. It took a long time, but it worked.
They asked an old {beast} for help. "{Yes}," {replied} the {beast}. "Just follow the {tree} trees and the
    smell of {smell}."

At last they came to {place}. It was even more {nice} than they had dreamed.
Then they saw it: {place}! They {cried}, "{Wow}!" They [ran around|danced|rolled in the grass] and ate
    {treat}.
When they got {at_place}, they played {game} and had a picnic with {treat} and {treat}.

---
In the evening, they went home. "That was the best trip ever," said {friend}.
When {night}, they turned around. {Hero} was {tired} but {happy}. "Home is nice, too," {he} {said}.
They brought {elder} a {look} {object} from {place}. "Where shall we go next?" {asked} {hero}.

# the trick
@ask a trick
@ask a {kind} who played a trick
@ask saying sorry
@ask an apology
@lesson a joke is only funny when everyone can laugh
@lesson it takes courage to say sorry
@lesson you should not do to others what you would not like yourself
@lesson a kind word can mend a broken heart
@qa What trick did {hero} play? => {He} {trick}.
@qa Who was sad? => {Pal} was sad because of the trick.
@qa How did {hero} make it better? => {He} said sorry and gave {friend} {present}.
{Hero} loved to play tricks. One {day}, {he} had an idea. "This will be funny!" {he} {laughed}.
One {sunny} {daypart}, {hero} was bored. {He} wanted to play a trick on {pal}.
{Hero} saw {pal} sleeping {at}. {He} {laughed} and made a plan.

{He} {trick}.
So {he} {trick}. Then {he} hid {spot} and waited.
When {friend} was not looking, {hero} {trick}.

{Friend} was {scared}. "{Ohno}!" {fhe} {cried}. {Hero} laughed and laughed.
When {friend} saw it, {fhe} {cried} "{Ohno}!" and fell into a puddle. {Hero} could not stop laughing.
"{Ohno}!" {cried} {friend}. {Hero} jumped out. "It was only me!" {he} {laughed}.

But {friend} did not laugh. {Fhe} was {sad}. A tear ran down {fhis} cheek.
But {friend} was {sad} and {walked} home without a word.
"That was not funny," {whispered} {friend}. "I thought you were my friend."

---
{Hero} stopped laughing. {He} felt {ashamed}. {aside}
Now {hero} did not feel funny at all. {He} felt {ashamed} and {lonely}.
{Elder} had seen it. "How would you feel?" {ehe} asked {how}. {Hero} looked at the ground. {He} felt
    {ashamed}.

So {hero} made {present}. {He} took it to {friend}. "I am very sorry," {he} {said}.
All evening, {hero} worked on {present}. In the morning, {he} {walked} to {friend}'s home and knocked.
{He} went to {friend} with {present}. "Please forgive me," {he} {whispered}. "It was a mean trick."

{Friend} looked at it and smiled. "I forgive you," {fhe} {said}. "But no more mean tricks!" "I promise,"
    {said} {hero}.
"{Thanks}," {said} {friend}. "It is {nice}. Let us be friends again."
{Friend} gave {him} a hug. "Next time, let us play a trick that is funny for both of us," {fhe} {said}.

# the treasure
@ask a treasure
@ask a treasure map
@ask a {kind} who found a treasure
@ask pirates and a treasure
@lesson the best treasure is a good friend
@lesson a treasure is worth more when it is shared
@lesson not all treasures are made of gold
@lesson the fun is in the looking
@qa What was in the chest? => There was {chest} in the chest.
@qa Where was the treasure? => It was buried {at}.
@qa Who helped {hero} dig? => {Pal} helped {him} dig.
One {day}, {hero} found an old map {spot}. There was a {color} cross on it.
In an old {object}, {hero} found a map. "{Wow}! It is a treasure map!" {he} {cried}.
A {bird} dropped a piece of paper at {hero}'s feet. It was a map!

{He} {ran} to {pal}. "Look! A treasure is hidden {at}!" {he} {cried}.
{He} showed it to {pal}. "The treasure must be {at}!" {said} {friend}.
"Let us find the treasure together," {said} {hero} to {pal}. They took a shovel and a {light}.

They {walked} past the {tree} tree and over the {small} bridge. {aside}
First they went {number} steps to the left. Then they went {number} steps to the right. {aside}
The way was long. They climbed over rocks, crossed a stream, and asked a {beast} for the way.

---
At last they came {at_place}. "Dig here!" {cried} {friend}. They dug and dug until they were {tired}.
Then they stood where the cross was, {at}. {Hero} began to dig. Clonk! The shovel hit something hard.
There was the spot, {at}, between two stones. They dug {slowly}, deeper and deeper.

?A {beast} laughed at them. "There is no treasure," it said. But they did not stop.
"Maybe there is nothing," {whispered} {friend}. "Just a little deeper," {said} {hero}.

It was a {big} wooden chest! They opened the lid. Inside was {chest}.
They pulled out a chest covered with rust. The lid opened with a {sound}. And there was {chest}!
"A chest!" they {cried}. {They_two} lifted the lid. In the chest they found {chest}.

"{Wow}!" {said} {hero}. "Half is for you, and half is for me." "And we will give some to everybody," {said}
    {friend}.
"We are rich!" {laughed} {friend}. But {hero} smiled. "We were rich before," {he} {said}, "because we have
    each other."
They took it home and shared it with {elder}, the {animal}, and everybody {at}.

# the seed
@ask a seed
@ask a garden
@ask a {plant}
@ask a {kind} who planted a seed
@ask waiting and being patient
@lesson good things take time
@lesson you must be patient if you want something to grow
@lesson with a little love, even a small seed can become something {big}
@lesson it is worth waiting for good things
@qa What did {hero} plant? => {He} planted a seed, and it grew into a {plant}.
@qa Who told {hero} to be patient? => {Pal} told {him} to be patient.
@qa What grew from the seed? => A {plant} grew from the seed.
One {day}, {elder} gave {hero} a {small} seed. "Plant it and wait," {ehe} {said}.
One {day}, {hero} found a {small} {color} seed {spot}. "What will it be?" {he} wondered.
{Hero} bought a seed at the market for {number} pennies. It was as small as a crumb.

{He} dug a hole {at}, put the seed in, and covered it with earth. Then {he} gave it some water.
{He} planted it {at}, where the sun was warm. {He} sang it a {small} song.
{Hero} put it into the ground {at} and sat down next to it. "Grow!" {he} said.

The next day, {he} {ran} to look. There was nothing. The day after, there was still nothing. {Hero} was {sad}.
{He} waited one day, and {he} waited {number} days. Nothing happened. "It does not like me," {he} {whispered}.
But nothing grew. {Hero} was {cross}. "Silly seed!" {he} {cried}. {He} wanted to dig it up.

---
"You must be patient," said {pal} {how}. "A seed needs water, sun and time."
{Pal} came to see. "Wait a little," {fhe} {said}. "It is working under the ground where you cannot see it."
"Do not dig it up!" {cried} {pal}. "It is only sleeping. Give it some time."

So {hero} watered the seed every {daypart}. It rained, and the sun shone. {aside}
{Hero} waited. {He} pulled out the weeds and chased away the {bird+}. {He} told it stories.
So {he} came every day with a {look} {object} full of water. Days went by, and weeks went by.

Then, one {sunny} {daypart}, there was a {small} green leaf! "{Wow}! It is growing!" {cried} {hero}.
And then, one {day}, a {small} green tip came out of the ground. {Hero} was {happy}.
One {day}, {friend} {cried}, "{Hero}! Come quickly!" A green leaf had come up overnight.

---
It grew and grew until it was a {big} {plant}. Everyone came to see it. {Hero} was {proud}.
By summer, it had become a {nice} {plant}. {They_two} sat beside it and ate {treat}.
It became the most {nice} {plant} {at}. {Hero} gave a seed from it to {friend}. "Plant it and wait," {he}
    {laughed}.

# a sick friend
@ask a sick friend
@ask a {fkind} who was ill
@ask caring for a friend
@ask a visit to a friend
@lesson a visit is the best medicine
@lesson a good friend is there when you need one
@lesson a little kindness can make somebody feel better
@lesson caring for others makes you happy, too
@qa Who was ill? => {Pal} was ill.
@qa What did {hero} bring? => {He} brought {meal} and {present}.
@qa Why was {friend} in bed? => {Friend} was in bed with a cold.
One {day}, {hero} wanted to play {play} with {pal}. But {friend} did not come.
Every {daypart}, {hero} and {pal} played {play}. But today, {friend} was not {at}.
"Where is {friend}?" {asked} {hero}. {Friend} was {a_friend}, and {fhe} was never late.

{Elder} said, "{Friend} is ill. {Fhe} has a bad cold and must stay in bed." {Hero} was {sad}.
{He} {ran} to {fhis} home and looked through the window. {Friend} lay in bed with a {color} scarf around
    {fhis} neck.
{He} knocked at {fhis} door. "Achoo!" came from inside. "I am ill," {whispered} {friend}.

"Poor {friend}!" thought {hero}. "What can I do to help?" {He} thought and thought.
{Hero} could have played alone, but {he} kept thinking of {friend}. Then {he} had an idea.
"I will make {fhim} feel better," said {hero}.

---
{He} went home and cooked {meal}. {Elder} helped {him} stir.
First, {he} asked {elder} for some {meal}. Then {he} {ran} {at_place} to pick {flowers}.
{He} put {meal} into a basket and covered it with a {color} cloth.

Then {he} made {present}. {He} worked {slowly}, and it took all day.
{He} also made {present}, because {friend} loved such things.
And because a good friend brings a gift, {he} made {present}.

Then {he} {walked} to {friend}'s home. The way was long, and {weather}. {aside}
{He} carried everything to {friend}'s bed. "This is for you," {he} said {how}.
"Knock, knock," said {hero}. "Here is {meal}, and here is {present}."

---
{Friend} smiled for the first time that day. "{Thanks}! I feel better already," {fhe} {said}.
{Friend} ate it all up. {Hero} told {fhim} a story about a {animal} who loved {hobby}. Soon {friend} was
    laughing.
"You are the best friend in the world," {whispered} {friend}. {Hero} sat by the bed until {fhe} fell asleep.

{Number} days later, {friend} was well again, and they played {play} {at}.
Soon {friend} was strong again. "Now let us play {play}!" {fhe} {cried}.
The next week, {hero} had a cold. And who came with {meal}? It was {friend}!

# the gift
@ask a birthday
@ask a birthday present
@ask a gift for a friend
@ask a {kind} who had no money
@lesson the best gift comes from the heart
@lesson a gift does not have to cost money
@lesson it is the thought that counts
@lesson giving is as nice as getting
@things treasures toys clothes
@qa What did {hero} give to {friend}? => {He} gave {friend} {present}.
@qa Whose birthday was it? => It was {friend}'s birthday.
@qa Why did {hero} not buy the {noun}? => {He} did not have enough money.
It was almost {friend}'s birthday. {Friend} was {a_friend} and {hero}'s best friend. {Hero} wanted to give
    {fhim} something {nice}.
"Tomorrow is my birthday!" {cried} {pal}. {Hero} was {excited}. What could {he} give {fhim}?
{Pal} was having a birthday party {at}. Everybody was going to bring a present.

In the window of the {shop}, {he} saw a {thing}. It was {nice}! But it cost {number} coins, and {hero} had
    only one.
{Hero} went to the market and saw a {thing}. "How much is it?" {he} asked. "Too much for you," {said} the
    {animal} who sold it.
{He} wanted to buy a {thing}. {He} shook {his} piggy bank, but only {number} pennies fell out.

{He} {walked} home, {sad}. "I have nothing to give," {he} {whispered}.
{Hero} was {sad}. {He} sat down {spot} and thought.
{Hero} tried to earn some money. {He} helped to {job}, but it was not enough.

---
"You are good at making things," {said} {elder} {how}. "Why don't you make something?"
{Elder} sat down next to {him}. "The best gifts are not bought," {ehe} {said}. "They are made."
Then {he} saw {flowers} by the road, and {he} had an idea. "I will make something myself!" {he} {cried}.

All night long, {hero} worked. In the morning, it was ready: {present}!
So {he} made {present}. {He} worked {slowly}, with {his} tongue between {his} teeth.
{He} took paper, glue and a {color} ribbon, and {he} made {present}.

---
At the party, the others gave {big} boxes. {Hero} felt {shy}. "It is only {present}," {he} {whispered}.
{He} was {scared} that {friend} would not like it. {Friend} opened the paper {slowly}.
When {he} gave it to {friend}, {his} hands were shaking. "I made it for you," {he} said.

"You made it yourself?" {cried} {friend}. "It is the best present of all!" {Fhe} hugged {him}.
{Friend}'s eyes were shining. "{Thanks}! It is {nice}. I will keep it forever," {fhe} {said}.
"It is {nice}!" {laughed} {friend}. "Nobody else has one like it." {Hero} was {happy}.

# the snow day
@ask snow
@ask a snowy day
@ask a snowman
@ask winter
@lesson snow is more fun with friends
@lesson nice things do not last forever, but memories do
@lesson winter is warm when you are with your friends
@qa What did they build? => They built a snowman.
@qa What did the snowman wear? => The snowman wore a {hue} {noun}.
@qa Why did the snowman go away? => The sun melted it, because spring had come.
@things clothes
One winter morning, {hero} looked out of the window. Everything was white. "{Wow}! Snow!" {he} {cried}.
It had snowed all night. In the morning, {place} was covered with snow. {Hero} was {excited}.
One cold {daypart}, {number} snowflakes fell from the sky, and then a million. {Hero} caught one with {his}
    tongue.

{He} put on {his} warm coat and {ran} to {pal}. "Come out and play!" {he} {cried}.
{Pal} was already outside, throwing snowballs. "Let us build a snowman!" {said} {friend}.
{He} called {pal}, and together they {ran} {at_place}.

They rolled a {big} ball, then a smaller one, and then a {small} one for the head.
They rolled and pushed until they had three balls of snow. {Hero} was so {tired} that {he} fell over backward.
"The belly must be {big}," {said} {friend}. They rolled the snow until it was as tall as {elder}.

A carrot was the nose, and {number} stones were the buttons. {Hero} gave the snowman {his} {hue} {noun}.
"He needs a {hue} {noun}," {said} {hero}. {Friend} put it on, and now the snowman looked {nice}.
They gave it a nose, a mouth and a {hue} {noun}. "Hello, Mr. Snow!" {laughed} {hero}.

---
?A {beast} came by, shaking with cold. "You may have some of our {treat}," {said} {hero}, and the {beast}
    warmed up.
They had a snowball fight, and {hero} got snow in {his} ears. {aside}

When their feet were cold, they went inside. {Elder} made {treat} for everyone.
Then they went sledding down the hill. "Faster!" {cried} {friend}. They landed in a {big} heap of snow.
They stayed outside until {night}. Then they sat by the fire with {treat}.

But one day, the sun was warm. The snowman grew smaller and smaller. {Hero} was {sad}.
In spring, the snowman began to melt. Soon only the {hue} {noun} was left. "Where did he go?" {asked} {hero}.
Every day {hero} visited the snowman. But spring came, and one {day} there was only a puddle.

"Do not be sad," {said} {friend} {how}. "Next winter, he will come back."
"He is in the river now, and in the {flowers}," {said} {elder}. "He will come back with the snow."
{Friend} took {his} hand. "We will build another one next year," {fhe} {said}. And they did.

# the lost baby
@ask a lost baby {birdie}
@ask a baby {birdie} that fell out of its nest
@ask a {kind} who found a baby bird
@ask finding the way home
@lesson everyone needs a home
@lesson small ones need a little help
@lesson a mother never stops looking for her child
@lesson it is good to help those who are lost
@qa What did {hero} find? => {He} found a baby {birdie} that had fallen out of its nest.
@qa Where was the nest? => The nest was high up in the {tree2} tree.
@qa Who helped {hero}? => {Pal} helped {him} bring the baby {birdie} home.
One {sunny} {daypart}, {hero} was walking {at}. {He} heard a {small} sound. "Peep! Peep!"
After a windy night, {hero} {walked} {at_place}. Something moved {spot}.
{Hero} was {hobby} {at} when something soft landed in front of {him}.

It was a baby {birdie}! It had fallen out of its nest. It was {scared} and cold.
There sat a baby {birdie}. It could not fly yet. "Where is my mama?" it {whispered}.
A {small} {birdie} looked up at {him} with round eyes. It was all alone.

"Do not be afraid," {said} {hero} {how}. {He} wrapped it in {his} {color} scarf.
"You poor thing!" {said} {hero}. {He} picked it up {slowly} and kept it warm.
{Hero} gave it a crumb and some water. "I will bring you home," {he} {said}.

---
But where was the nest? {He} asked a {beast}. "I have not seen it," {said} the {beast}.
{Hero} {looked} in the {tree} tree. There was no nest. {He} {looked} in the bushes. There was no nest.
{He} asked {pal}. "I think I heard a mother bird crying near the {tree2} tree," {said} {friend}.

{Hero} {walked} on. {aside} Then {pal} {cried}, "Look up there, in the {tree2} tree!"
{Pal} knew every tree. "There is a nest in the {tree2} tree," {fhe} {said}.
Then {pal} came along, and together they heard a sad song. A mother {birdie} was flying around the {tree2}
    tree.

The nest was high. {Hero} was {scared}, but {friend} held {him}, and {slowly} {he} climbed up.
{Friend} made {himself_f} tall, and {hero} stood on {fhis} shoulders. {Slowly}, {he} put the baby into the
    nest.
They got a ladder. {Hero} climbed {number} steps, and then {number} more, and put the baby {birdie} back.

---
The mother {birdie} was {happy}. "{Thanks}!" she {sang}. "You brought my baby home!"
"Mama!" {cried} the baby {birdie}. The mother sang her most {nice} song for {hero} and {friend}.
From then on, the {birdie} came to {hero}'s window every morning and {sang}.

# the wish
@ask a wish
@ask a wishing star
@ask a {kind} who made a wish
@ask a shooting star
@ask magic
@lesson the best wish is one for somebody else
@lesson what you need may already be beside you
@lesson you should be careful what you wish for
@lesson a kind heart is stronger than magic
@qa What did {hero} wish for at first? => At first, {he} wanted {wish}.
@qa Who needed help? => {Pal} needed help.
@qa Who gave {hero} the wish? => A {beast} with magic powers gave {him} the wish.
One night, {hero} sat {at} and looked at the sky. A star fell down, right in front of {him}!
One {day}, {hero} found a {look} bottle {spot}. {He} opened it, and out came a {small} {beast} in a cloud of
    smoke.
{Hero} had always wanted {wish}. {He} dreamed of it every night.

Then a {beast} with a {color} hat appeared. "I can do magic," it {said}. "You have one wish."
"Hello," {said} a magic {beast}. "You may make one wish. But think about it carefully."
A shining {beast} stood before {him}. "Because you are {adj}, I will give you a wish," it {said}.

"A wish!" {cried} {hero}. "I could have {wish}!" {He} was {excited}.
{Hero} thought of {wish}. {He} thought of a {thing}. {He} thought of {number} other things.
"I know what I want," thought {hero}. "I want {wish}."

---
But then {he} heard somebody crying. It was {pal}, {spot}.
On the way home, {he} met {pal}, who was {sad}.
Just as {he} opened {his} mouth, {newpal} came along. {Friend} looked {sad}.

"What is wrong?" {asked} {hero}. "{Trouble}," {whispered} {friend}.
"{Trouble}," {said} {friend}, "and nobody can help me."
{Friend} wiped {fhis} eyes. "{Trouble}," {fhe} {said}.

{Hero} looked at {friend}, and {he} thought of {wish}. It was hard. Then {he} said, "I wish for {friend} to be
    happy again."
{Hero} knew what to do. "I will use my wish for you," {he} {said}.
"My wish can wait," thought {hero}. "{Friend} needs it more." And so {he} wished for {friend} to be happy.

---
There was a flash of {color} light, and everything was well. {Friend} jumped for joy. "{Thanks}!" {fhe}
    {cried}.
The {beast} waved its hand. {Number} stars flew through the air. {Friend} began to smile. {aside}
"{Praise}," said the {beast}. "That was the best wish I ever heard." And it gave {hero} a {thing}.

# the show
@ask a show
@ask a talent show
@ask a {kind} who was too shy to sing
@ask being brave on a stage
@ask music
@things music
@lesson you can be shy and brave at the same time
@lesson everyone is afraid sometimes
@lesson a friend in the crowd makes you strong
@lesson you should believe in yourself
@qa What did {hero} play? => {He} played the {noun}.
@qa Why was {hero} afraid? => {He} was afraid because so many people were watching.
@qa Who helped {hero} to be brave? => {Pal} helped {him} to be brave.
{Hero} loved to play {his} {thing}. {He} played it every {daypart}, but only when nobody was there.
There was going to be a big show {at}. {Hero} could play the {noun}, but {he} was very shy.
"Everybody can be in the show {at}!" {said} {elder}. {Hero} wanted to play {his} {thing}.

{Pal} heard {him}. "That is {nice}! You must play in the show," {fhe} {said}.
"I am going to dance," {said} {pal}. "What are you going to do?" "I don't know," {whispered} {hero}.
{He} practiced for {number} days with {pal}. The music was {nice}.

?On the day of the show, a {animal} juggled {number} apples, and a {animal} told a joke.
First a {animal} danced. Then a {animal} sang a song about {flowers}. Everybody clapped.

---
Then it was {hero}'s turn. So many eyes were looking at {him}! {His} knees shook. {He} was {scared}.
{Hero} {walked} onto the stage. {He} held the {noun}, but {he} could not move. It was very quiet.
But when {he} stood behind the curtain, {he} was {scared}. "I can't do it," {he} {whispered}.

Then {he} saw {friend} in the first row. {Friend} smiled and {nodded}.
"Look only at me," {whispered} {friend}. "Play as if we were alone {at}."
{Friend} took {his} hand. "I am {scared} too," {fhe} {said}. "Let us be {scared} together."

{Hero} closed {his} eyes and began to play. The first note was {small}, the next was {big}.
So {he} took a deep breath and played. The music floated through the air like {flowers} in the wind.
{Hero} thought of {hobby}. {He} forgot about the crowd and played better than ever before.

---
When {he} stopped, it was quiet. Then everybody clapped and {cried}, "Bravo! Bravo!" {Hero} felt {proud}.
Everybody stood up and cheered. {Elder} wiped a tear from {ehis} eye. "{Praise}!" {ehe} {said}.
"More! More!" {cried} the {animal+}. {Hero} bowed {number} times. {He} was {happy}.

# too much
@ask a greedy {kind}
@ask a {kind} who ate too much
@ask being greedy
@ask {nibble+}
@lesson enough is as good as a feast
@lesson it is not good to be greedy
@lesson it is better to leave some for the others
@lesson too much of a good thing can make you ill
@qa What did {hero} eat? => {He} ate too many {nibble+}.
@qa Why did {hero}'s belly hurt? => It hurt because {he} had eaten all the {nibble+}.
@qa Who wanted a {nibble}? => {Pal} wanted a {nibble}.
{Hero} loved {nibble+} more than anything. One {day}, {he} {saw} a {big} basket of {nibble+} {at}.
One {day}, {elder} brought {number} {nibble+}. "They are for everybody," {ehe} {said}.
There was a party {at}, and on the table was a {big} plate of {nibble+}. {Hero} was hungry.

{He} ate one. It was {nice}! So {he} ate another, and another, and {number} more.
"Just one," thought {hero}. But one became two, and two became {number}.
When nobody was looking, {he} began to eat. Munch, munch, munch! Soon the {nibble+} were almost gone.

{Pal} came by. "May I have a {nibble} too?" {fhe} {asked}. "No!" said {hero}. "They are all for me."
"Please leave some for me," {said} {pal}. But {hero} turned around and ate the last one.
"Stop! Those are for all of us!" {cried} {pal}. {Hero} did not listen.

---
Soon {his} belly began to hurt. It was as round as a ball. "{Ohno}!" {whispered} {hero}. {He} could not move.
Then {hero} wanted to go home, but {he} was too round to fit through the door!
"Ouch!" {cried} {hero}. {He} had a {big} bellyache. {He} lay down {spot}.

{Elder} shook {ehis} head. "That is what happens when you eat too much," {ehe} said {how}.
All the others were playing {game}, but {hero} could not play. {He} felt {ashamed}.
A {beast} came by and {laughed}. "You look like a {color} balloon!" {Hero} felt {ashamed}.

{Friend} brought {him} some tea. "Drink this," {fhe} said {how}. "You will feel better."
But {friend} was not cross. {Fhe} sat with {him} and rubbed {his} belly.
{Friend} felt sorry for {him} and helped {him} get up.

---
"I was greedy," {said} {hero}, "and you are still kind to me. I am sorry."
The next day, {hero} brought {friend} a basket of {nibble+}. "These are all for you," {he} {said}.
When {he} was well again, {hero} made {number} {nibble+} and gave them all away. {He} kept only one.

"Let us share them," {said} {friend}. And they ate them {slowly}, one for you and one for me.
{Friend} smiled and broke the biggest {nibble} in two. "Half for you," {fhe} {said}, "and half for me."
"{Thanks}!" {said} {friend}. And it tasted better than {number} {nibble+} eaten alone.

# the monster
@ask a monster
@ask a {big} monster under a bridge
@ask a {kind} who was not afraid of a monster
@ask a dragon in a cave
@lesson you should not be afraid of someone just because of how they look
@lesson even a monster needs a friend
@lesson a kind word works better than a sword
@lesson you cannot judge a book by its cover
@qa Where did the {ogre} live? => The {ogre} lived {lair}.
@qa Why was the {ogre} so loud? => It was loud because it was lonely.
@qa Who made friends with the {ogre}? => {Hero} made friends with the {ogre}.
Near {place}, there lived a {big} {ogre}. It lived {lair}, and everybody was {scared} of it.
People said that a {ogre} lived {lair}. "It has {color} teeth and eats {object+} for breakfast!" they said.
Every night, a roar came from {lair_place}. "It is the {ogre}!" {whispered} {pal}.

"Never go there," {said} {elder}. But {hero} was curious.
"Somebody should talk to it," {said} {hero}. "You are very brave," {said} {pal}, "or very silly."
{Hero} was {scared}, too. But {he} thought, "Has anybody ever asked it why it roars?"

One {sunny} {daypart}, {hero} took {a_snack} and {walked} to {lair_place}. {aside}
So {he} and {pal} {walked} there {slowly}. {Friend} hid {spot}, but {hero} went on.
One {day}, {hero}'s {noun} rolled away, right to {lair_place}. {He} had to go and get it.

---
"Who is there?" roared the {ogre}. {Hero}'s knees shook. "I am {hero}," {he} said. "Why do you roar so
    loudly?"
There it was! It had {number} horns and {color} fur. {Hero} took a deep breath. "Good morning," {he} said
    politely.
"Go away!" growled the {ogre}. But {hero} saw a tear in its eye. "Why are you crying?" {he} asked {how}.

"Because I am lonely," {said} the {ogre}. "Everybody runs away from me."
The {ogre} sat down. "Nobody ever talks to me," it {whispered}. "I only roar because I am sad."
"I have a thorn in my foot," {said} the {ogre}, "and nobody will help me." {Hero} pulled it out {slowly}.

"I will be your friend," {said} {hero}. {He} gave the {ogre} {a_snack}.
"Do you like {treat}?" {asked} {hero}. The {ogre} had never had any. It ate {number} plates and smiled.
"Would you like to play {play}?" {asked} {hero}. The {ogre} {nodded} so hard that the ground shook.

---
{Hero} took the {ogre} to the village. At first, all were {scared}. But the {ogre} helped to {job}, and soon
    they all liked it.
Soon {friend} came out, too, and they all played {play} together. The {ogre} was {happy}.
From then on, nobody was afraid. The {ogre} carried the {small} ones on its back, and there were no more
    roars, only laughing.

# lost in the woods
@ask getting lost
@ask a {kind} who got lost
@ask finding the way home
@ask a {kind} and a kind {fkind}
@lesson it is wise to stay on the path
@lesson you should stay calm when you are lost
@lesson there is always somebody who can help
@lesson home is where somebody is waiting for you
@qa How did {hero} get lost? => {He} followed a {hue} {bug2} and left the path.
@qa Who showed {hero} the way home? => {Pal} showed {him} the way home.
@qa Who was waiting at home? => {Elder} was waiting at home.
"Do not leave the path," {elder} always said. One {day}, {hero} {walked} {at_place}.
One {sunny} {daypart}, {elder} sent {hero} {at_place} to [pick {flowers}|get some {ingredient}|look for
    nuts|fetch some water].
One {day}, {hero} went for a walk all by {himself}. {Weather}.

Then {he} {saw} a {hue} {bug2}. It was so {nice} that {he} {ran} after it.
A {hue} {bug2} flew past {his} nose. "Wait for me!" {cried} {hero}, and {he} left the path.
{He} followed a {hue} {bug2}, over a stream and through the {flowers}, farther and farther.

When {he} stopped, all the trees looked the same. {He} did not know where {he} was. {Hero} was lost!
Suddenly the {bug2} was gone. {Hero} looked around. Where was the path? {He} was {scared}.
Then {he} looked up. It was {dark}, and {he} had never been here before. "{Ohno}! I am lost!" {he} {cried}.

---
{He} {walked} this way and that way. {aside} {He} called for {elder}, but only the wind answered.
{He} sat down {spot} and began to cry.
{Hero} was {tired} and hungry. {He} ate {number} berries and {whispered}, "I want to go home."

Just then, {newpal} came along. "Why are you crying?" {fhe} {asked}.
"Who is crying in my forest?" {asked} a voice. It was {newpal}.
Then {he} saw a light. It was {newpal}, carrying a {light}.

"I am lost," {said} {hero}. "Do not be afraid," {said} {friend} {how}. "I know every tree here. I will take
    you home."
"I lost my way," {whispered} {hero}. {Friend} smiled. "Then let us find it together," {fhe} {said}.
"Can you tell me the way home?" {asked} {hero}. "{Yes}," {replied} {friend}. "We only need to follow the
    [stream|stars|smell of {treat}]."

They {walked} and {walked}. {Friend} told {him} a funny story, and {hero} was not {scared} anymore.
They followed the {tree} trees, then a stream, and then a road. {aside}
It was a long way, but with {friend} it seemed short.

---
At last {hero} saw {his} home. {Elder} stood at the door. "There you are!" {ehe} {cried} and hugged {him}.
"{Hero}!" {cried} {elder}. {Ehe} had been so {scared}. {Hero} {ran} into {ehis} arms.
There was a light in the window. {Elder} had made {treat}, and there was enough for {friend} too.

# the invention
@ask an invention
@ask an inventor
@ask a {kind} who built {gadget}
@ask building something
@ask a {kind} with a big idea
@lesson every mistake teaches you something
@lesson two heads are better than one
@lesson big ideas start small
@lesson it is all right if things do not work the first time
@qa What did {hero} build? => {He} built {gadget}.
@qa Did it work the first time? => No, at first it fell apart, but then it worked.
@qa Who helped {hero}? => {Pal} helped {him}.
{Hero} loved to build things. One {day}, {he} had a {big} idea. {He} wanted to build {gadget}.
"I have an idea!" {cried} {hero} one {day}. "I will build {gadget}!"
One {day}, {hero} dreamed of {gadget}. In the morning, {he} began to build it.

{He} took a {object}, a {color} {object}, {number} nails and some string.
{He} looked for old things {at} and found a {object}, a wheel and a {look} {object}.
{He} drew a plan on a {big} piece of paper. Then {he} got a hammer, a saw and a {object}.

"What are you doing?" {asked} {pal}. "You will see," {said} {hero}.
A {beast} {laughed}. "That will never work!" it said. But {hero} did not stop.
{He} hammered and sawed until {night}. {aside}

---
At last it was ready. {Hero} pulled the [rope|string|handle]. There was a {sound}, then a bang. It fell apart!
"Now watch!" {cried} {hero}. It shook, it hummed, and crash! It fell to pieces.
But when {he} tried it, it only made a {sound} and rolled {spot}. It was broken.

{Hero} was {sad}. "I am not a real inventor," {he} {whispered}.
Everybody laughed. {Hero} felt {ashamed} and threw {his} hammer away.
"{Ohno}!" {said} {hero}. "All that work for nothing!" {He} felt {cross}.

But {pal} picked up a piece. "I think this part was upside down," {fhe} {said}. "Shall we try again?"
"It was almost right," {said} {friend} {how}. "Maybe it only needs one more {object}."
{Friend} did not laugh. "Every inventor fails {number} times," {fhe} {said}. "I will help you."

So they worked together. {Friend} held the {object}, and {hero} turned the screws.
{They_two} worked for {number} days. They changed this, and they changed that.
They used a {color} {object} and a lot of glue. {Elder} brought them {treat}.

---
Then {hero} tried it again. Whirr! It worked! "{Wow}! We did it!" {cried} {hero}. {He} felt {proud}.
And this time, it worked. Everybody came {at_place} to see {gadget}. "{Praise}!" {cried} {elder}.
"Three, two, one!" It moved, it hummed, and it worked! Even the {beast} said, "That is {nice}."

# the messy room
@ask cleaning up
@ask a messy room
@ask a {kind} who would not tidy up
@ask a missing {noun}
@things toys clothes
@lesson everything has its place
@lesson work is fun when you do it together
@lesson it is easier to find things in a tidy room
@lesson a little work every day keeps the mess away
@qa Why could {hero} not find the {noun}? => {His} room was such a mess that {he} could not find it.
@qa Who helped {hero} to clean up? => {Pal} helped {him}.
@qa Where was the {noun}? => It was under a big heap of things.
{Hero}'s room was a mess. There were {object+} on the bed and {treat} under the chair.
{Hero} never cleaned up. {He} threw {his} {object} here and {his} {object} there.
"Please clean up your room," said {elder} every day. "Later," {said} {hero} every day.

One {day}, {pal} came to play {play}. "Bring your {thing}!" {fhe} {said}.
One {day}, {hero} needed {his} {thing}, because there was a party {at}.
{Hero} wanted to go {at_place} and play with {his} {thing}.

{He} {looked} under the bed and found {number} socks, but no {noun}. {He} {looked} behind the door. No {noun}!
But where was it? {He} {looked} in the box. {He} {looked} under a heap of {object+}. It was not there.
"Where is my {noun}?" {he} {cried}. {He} tripped over a {object} and fell into a heap of {object+}.

---
{Hero} was {sad}. "Now I can't go," {he} {whispered}.
{Hero} sat in the middle of the mess and felt {cross}.
"I think this room ate my {noun}," {said} {hero}.

"I know what to do," {said} {friend} {how}. "We will clean up. Then we will find it."
{Elder} looked in. "Clean up, and you will find what you lost," {ehe} {said}. {Pal} {nodded}. "I will help
    you," {fhe} {said}.
{Pal} {laughed}. "Let us make it a game! Who can pick up the most things?"

So they put the {object+} on the shelf, the {color} things in the box, and the {object+} in the closet.
They sang a song and worked {quickly}. One, two, three, the floor was clean. {aside}
They picked up {number} {object+}, {number} {object+} and half a {snack}.

And there, under the last heap, was the {noun}! "{Wow}!" {cried} {hero}.
Then {friend} {cried}, "Look what I found!" It was the {thing}!
When the room was clean, something {color} was shining on the floor. It was the {noun}.

---
{Hero} was {happy}. Now there was room to dance, and {they_two} danced.
"It looks {nice} here!" {said} {elder}. And {they_two} went {at_place} to play {play}.
"{Thanks}, {friend}!" {said} {hero}. And from then on, the {noun} had its own place on the shelf.

# the empty well
@ask a thirsty {beast}
@ask a very hot summer
@ask working together
@ask a {kind} who saved the village
@lesson together we can do what nobody can do alone
@lesson water is a precious thing
@lesson the smallest voice may have the best idea
@lesson it is good to listen to one another
@qa Why was everybody worried? => Everybody was worried because there was no water.
@qa Who had the idea? => {Hero} had the idea.
@qa Where did they find water? => They found water {spot}.
One summer, it did not rain for {number} weeks. The well was empty, and the {flowers} hung their heads.
It was the hottest summer of all. The stream {at} was dry, and everybody was thirsty.
"There is no more water," {said} {elder} one {day}. All the animals were {scared}.

The {animal} blamed the {animal}, and the {animal} blamed the {animal}. Nobody knew what to do.
All the animals met {at}. "We must go away," {said} the {beast}. But nobody wanted to leave.
The strong {beast} dug a hole, but there was only dust. It gave up and lay down in the shade.

"I have an idea," {said} {hero}. But nobody listened, because {he} was so small.
{Hero} looked at the ground. A line of ants was marching past. "Ants need water too," {he} thought.
{Hero} {saw} some fresh green grass {spot}. "Where there is grass, there is water!" {he} {cried}.

---
Only {pal} listened. "Let us try it," {fhe} {said}.
"That is clever," {said} {pal}. "Show me the place."
{He} told {pal}, and {friend} told everybody else. "Let {hero} speak!" {fhe} {cried}.

So they went there. They put their ears to the ground. Drip, drip, drip! There was water {spot}!
They dug {spot}, first with a {object}, then with their hands. The earth was wet!
They followed {hero}'s idea and looked {spot}. The ground there was cool and damp.

"We need everybody," {said} {hero}. The {animal} dug, the {animal} carried, and the {animal} sang to cheer
    them up.
Then all the others came to help. The {beast} pushed a {big} stone away. {aside}
The big ones dug, and the small ones carried the earth away. They worked until {night}.

And then, with a splash, the water came! It was cool and clear. Everybody drank and {cried}, "Hooray for
    {hero}!"
Whoosh! A {small} fountain shot up into the air. They danced in it until they were wet from head to toe.
Soon there was a {small} pond, and all could drink. "{Praise}!" {said} {elder} to {hero}. {He} felt {proud}.

# the moon
@ask the moon
@ask the stars
@ask a {kind} who wanted to touch the moon
@ask a bedtime story about the moon
@ask the night sky
@lesson some things are lovely even if you cannot hold them
@lesson the moon belongs to everybody
@lesson it is nice to dream of {big} things
@lesson you can enjoy a thing without owning it
@qa What did {hero} want? => {He} wanted to catch the moon.
@qa What did {hero} use to reach the moon? => {He} used a {thing} and a tall ladder.
@qa Where did {hero} see the moon again? => {He} saw it in the water.
@things gear
One night, {hero} looked at the moon. It was round and {nice}. "I want to have it," {he} {said}.
{Hero} loved the moon. Every night, {he} sat {at} and said, "Good evening, Moon."
One {day}, {hero} had a dream about the moon. When {he} woke up, {he} said, "I will catch it."

{He} climbed the highest {tree} tree and stretched out {his} arms. But the moon was too far away.
{He} took a {thing} and climbed up the hill. The moon was still too high.
{He} put a table on a box, a chair on the table, and a {object} on the chair. Up {he} climbed, and down {he}
    fell.

"Come down, Moon!" {he} {cried}. But the moon only smiled.
A {bird} laughed at {him}. "You cannot catch the moon!" it {sang}.
{Hero} was {sad} and {tired}.

---
"What are you doing?" {asked} {pal}. "I want to catch the moon," {said} {hero}, "but I can't reach it."
{Pal} came by with a {light}. "I will help you," {fhe} {said}. They brought a {thing} and a tall ladder.
{He} told {pal}. {Friend} thought for a while. "Come with me," {fhe} said {how}.

They went to the water. There was the moon, shining on the waves! {Hero} reached for it, but it broke into
    {number} pieces.
Then they looked into the pond, and there was the moon! {Hero} put in a {thing}, but there was only water in
    it.
They {walked} to the lake. The moon was lying in the water like a silver coin. "{Wow}!" {whispered} {hero}.

"{Ohno}! I broke it!" {cried} {hero}. "No," {replied} {friend}. "Wait." The water grew still, and the moon was
    whole again.
"You can't keep it," {said} {friend}, "but you can look at it as long as you like."
"You see," {said} {friend}, "it comes to visit us. We do not have to catch it."

---
So they sat [side by side|close together] and looked at the moon until they were {tired}.
{Hero} smiled. "Good night, Moon," {he} {said}. And it seemed to {him} that the moon {whispered}, "Good night,
    {hero}."
The moon shone on {hero}, and it shone on {friend}, and it shone on all the sleeping {animal+}.

# the jealous friend
@ask jealousy
@ask a jealous {kind}
@ask three friends
@ask a {kind} who felt left out
@lesson there is room in a heart for many friends
@lesson you do not lose a friend when you find another
@lesson it is good to talk about how you feel
@lesson three friends have more fun than two
@qa Why was {hero} jealous? => {He} was jealous because {friend} played with the {beast}.
@qa Who was {hero}'s best friend? => {His} best friend was {pal}.
@qa What did the three of them play? => They played {play} together.
{Hero}'s best friend was {pal}. They played {play} {at} every day.
{Hero} and {pal} did everything together. They even shared a {thing}.
{Hero} had one friend, and that was {pal}. "I do not need any others," {he} said.

But one {day}, a new {beast} came {at_place}. {Friend} wanted to show it everything.
One {day}, {friend} brought a {beast} along. "This is my new friend," {fhe} {said}.
Then {hero} saw {friend} playing {play} with a {beast}. They were laughing!

{Hero} felt {cross}. "{Friend} is my friend," {he} {whispered}.
{Hero} was {cross} and {lonely}. {He} hid {spot} and would not come out.
"I don't like that {beast}," {said} {hero}, and {he} {walked} home, {sad}.

---
?At home, {he} kicked {his} {noun} and did not want any {treat}. "What is wrong?" {asked} {elder} {how}.
{aside} But {hero} did not notice.

{Friend} came to look for {him}. "Why did you run away?" {fhe} {asked}.
The next day, {friend} knocked at the door. "I miss you," {fhe} {said}.
"{Hero}, where are you?" {cried} {friend}. At last {fhe} found {him} {spot}.

"You like the {beast} better than me," {whispered} {hero}. "No!" {replied} {friend}. "You will always be my
    friend."
"You have a new friend now," {said} {hero}. "And you can have one too," {said} {friend}. "Come and see."
{Hero} told {fhim} how {he} felt. {Friend} gave {him} a hug. "A heart is like a {big} house," {fhe} {said}.
    "There is always another room."

The {beast} came closer. "I have heard so much about you," it {said} to {hero}. "Will you teach me to play
    {play}?"
The {beast} was shy. It held out a {thing}. "This is for you," it {said} to {hero}. "I hope we can be
    friends."
Then the {beast} showed {hero} how to {skill}. It was {nice}, and {hero} forgot to be {cross}.

---
So the three of them played {play} until {night}. It was twice as much fun.
Now there were three friends, and {play} was better than ever.
{Hero} {laughed}. "Three is better than two!" {he} {said}. And they all ate {treat}.
"""

# ----------------------------------------------------------------------------- drawn once, kept to the end

FIXED: dict[str, tuple[str, ...]] = {
    "spot": SPOTS,
    "skill": SKILLS,
    "play": GAMES,
    "cake": CAKES,
    "nibble": SNACKS,
    "meal": TREATS,
    "plant": PLANTS,
    "ride": RIDES,
    "vase": BREAKABLE,
    "gadget": GADGETS,
    "wish": WISHES,
    "present": GIFTS,
    "cause": CAUSES,
    "sound": SOUNDS,
    "chore": JOBS,
    "hue": COLORS,
    "birdie": BIRDS,
    "bug2": BUGS,
    "tree2": TREES,
    "light": _words("lantern, candle, flashlight, lamp, torch"),
    "shelter": _words("""
        in a hollow tree, under the old bridge, in a dry cave, in the barn, under a big rock, in an empty
        shed, under an upside-down boat, in the mill, under a giant mushroom, inside a big barrel, in a
        stable, in a tent"""),
    "wonder": _words("""
        a garden with silver {flowers}, a room full of books that could talk, a tiny village where mice
        lived, a pond with golden fish, a tree that grew candy, a ship made of glass, a meadow where it
        was always spring, a kitchen where the spoons could dance, a hall with a thousand candles, a
        staircase to the clouds, a library as tall as a mountain, a carousel that turned by itself, a
        waterfall that sang, a cave full of crystals"""),
    "trick": _words("""
        put a rubber spider into {friend}'s basket, hid {friend}'s {object} up in a tree, dressed up as a
        ghost and jumped out from behind a door, painted {friend}'s {object} {color}, filled {friend}'s
        boots with mud, told {friend} that the sky was falling, tied {friend}'s shoes together, put salt
        into {friend}'s tea, covered the path with soap, called for help although nothing was wrong,
        locked the door and pretended that nobody was home"""),
    "chest": _words("""
        a heap of gold coins, a {look} crown, a hundred shining pearls, a pile of old books, a set of
        {color} paints, a {look} music box, a bag of magic seeds, hundreds of {color} marbles, a mountain
        of candy, a golden trumpet, a letter from a pirate and a silver ring, toys from long ago, a box of
        jewels"""),
    "ogre": _words("monster, dragon, troll, giant, ogre, beast, sea monster, yeti, wild bear, griffin"),
    "trouble": _words("""
        I have lost my way home, my house blew away in the wind, my little brother is ill, nobody wants to
        play with me, I broke my mother's clock, my garden has dried up, my boat has sunk, I am hungry and
        cold, I have hurt my foot, I have lost my voice and cannot sing, my {object} was stolen, I have to
        move far away"""),
}
SWAPS = (
    ("salt", "sugar"), ("pepper", "cinnamon"), ("mustard", "honey"), ("vinegar", "milk"), ("soap", "butter"),
    ("sand", "flour"), ("chalk", "flour"), ("garlic", "vanilla"), ("onions", "apples"),
    ("ink", "cocoa"), ("glue", "cream"),
)  # fmt: skip
LAIRS = tuple(
    (f"{where} the {what}", f"the {what}")
    for where, what in (
        ("in", "deep cave"), ("under", "stone bridge"), ("in", "dark forest"), ("on", "black mountain"),
        ("in", "old castle"), ("in", "muddy swamp"), ("at the bottom of", "lake"), ("in", "ruined mill"),
        ("behind", "waterfall"), ("in", "cellar of the tower"), ("in", "empty mine"), ("on", "lonely island"),
    )
)  # fmt: skip
THINGS = {
    "toys": TOYS,
    "treasures": TREASURES,
    "clothes": CLOTHES,
    "music": MUSIC,
    "rides": RIDES,
    "gear": GEAR,
}

REQUESTS = _lines(r"""
    Tell me a story about {a_hero} named {hero}.
    Tell me a story about a {kind} [called|named] {hero}.
    Tell me a [short |nice |bedtime |funny |little |]story about {ask}.
    Can you tell me a story about {ask}?
    Could you [please |]tell me a story about {ask}, with a {kind} [named|called] {hero}?
    Please tell me a story about {ask} and a {kind} named {hero}.
    I [want|would like] [to hear |]a story about {a_hero} and {ask}.
    [Write|Make up|Tell] a story about {ask}.
    [Write|Tell me|Tell us] a story about {hero} the {adj} {kind}.
    [Write|Tell me|Do you know] a story about a {kind} named {hero} and a {fkind} named {friend}[.|,
        please.]
    Tell me a story about {hero} and {friend}.
    Tell me a story about a {kind}[.|, please.]
    [Tell me|Write|Can you tell me] a story about a {kind} and a {fkind}.
    Tell me a story that happens {at}.
    [Can|Could] you tell me a [bedtime |]story about {hero}, who [lives|lived] in {home}?
    A story about {ask}, please!
    Tell me about a {adj} {kind} and {ask}.""")
BARE_REQUESTS = (
    "Tell me a [bedtime |nice |short |funny |]story.",
    "Can you tell me a story?",
    "Tell me a story, please!",
    "I [can't sleep|am bored]. [Please tell|Tell] me a story.",
)
AGAIN = (
    "Tell me another one.",
    "Another story, please!",
    "[One more|Another one], please.",
    "Tell me one more story.",
)
GREETINGS = (
    (
        "[Hello|Hi|Good evening|Hi there][!|.]",
        "Hello! [Would you like to hear a story?|What story would you like to hear?]",
    ),
    ("[Can|Will] you tell stories?", "Yes, I love to tell stories! What would you like to hear about?"),
    ("Who are you?", "I am a storyteller. Shall I tell you a story?"),
)
THANKS = (
    (
        "[Thank you|Thanks|Thank you very much][!|.]",
        "You are welcome! [Good night.|Sleep well!|Come back soon.|I am glad you liked it.]",
    ),
    (
        "[I like|I love] that story[!|.]",
        "I am [glad|happy] that you [like|enjoyed] it! {Hero} would be [glad|happy] too.",
    ),
    ("Good night[!|.]", "Good night! [Sweet dreams!|Sleep well!|May you dream of {hero} and {friend}.]"),
)
QUESTIONS = (
    ("What did {hero} learn?", "{Hero} learned that {lesson}."),
    ("What is the moral of the story?", "The moral is that {lesson}."),
    ("Who was {hero}?", "{Hero} was {a_hero} who lived in {home}."),
    ("Who was {friend}?", "{Friend} was {a_friend} and {hero}'s friend."),
    ("What was the {kind}'s name?", "The {kind}'s name was {hero}."),
    ("Where did the story happen?", "It happened {at}."),
)

# ------------------------------------------------------------------------------------------------- telling

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)(\+?)\}")
_ARTICLE = re.compile(r"\b([Aa]) (?=(?!uni|use|one|once|eu)(?:[aeiou]|hour|honest))")
_IRREGULAR = {
    "mouse": "mice", "dormouse": "dormice", "goose": "geese", "mongoose": "mongooses", "wolf": "wolves",
    "calf": "calves", "loaf": "loaves", "leaf": "leaves", "scarf": "scarves", "thief": "thieves",
    "child": "children", "sheep": "sheep", "deer": "deer", "moose": "moose", "fish": "fish",
}  # fmt: skip


def plural(noun: str) -> str:
    """The plural of a noun or of a phrase: ``slice of cake`` becomes ``slices of cake``.

    >>> plural("fox"), plural("bag of nuts"), plural("rocking horse"), plural("butterfly")
    ('foxes', 'bags of nuts', 'rocking horses', 'butterflies')
    """
    head, of, rest = noun.partition(" of ")
    first, _, last = head.rpartition(" ")
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif re.search(r"[^aeiou]y$", last):
        last = last[:-1] + "ies"
    else:
        last += "es" if re.search(r"(s|x|z|ch|sh)$", last) else "s"
    return f"{first} {last}".strip() + of + rest


def with_articles(text: str) -> str:
    """The text with every ``a`` before a vowel sound turned into ``an``."""
    return _ARTICLE.sub(r"\1n ", text)


@dataclass(frozen=True)
class Plot:
    """A plot of the book above: what may be asked for, what is learned, and the wordings of each beat."""

    name: str
    asks: tuple[str, ...]
    lessons: tuple[str, ...]
    things: tuple[str, ...]
    questions: tuple[tuple[str, str], ...]
    beats: tuple[tuple[str, ...], ...]


def _parse_plot(text: str) -> Plot:
    """One plot from its text; see the comment above ``PLOT_BOOK`` for the notation."""
    name, _, body = text.partition("\n")
    body = re.sub(r"\n {4}", " ", body)
    keys: dict[str, list[str]] = {"ask": [], "lesson": [], "things": ["toys treasures"], "qa": []}
    for key, value in re.findall(r"^@(\w+) (.*)$", body, re.MULTILINE):
        keys[key].append(value)
    body = re.sub(r"^@.*\n", "", body, flags=re.MULTILINE).replace("---\n", "---\n\n")
    beats = [tuple(block.strip().split("\n")) for block in re.split(r"\n{2,}", body) if block.strip()]
    things = [noun for group in keys["things"][-1].split() for noun in THINGS[group]]
    questions = [(question, answer) for question, _, answer in (entry.partition(" => ") for entry in keys["qa"])]
    return Plot(name, tuple(keys["ask"]), tuple(keys["lesson"]), tuple(things), tuple(questions), tuple(beats))


PLOTS = tuple(_parse_plot(text) for text in PLOT_BOOK.strip().removeprefix("# ").split("\n# "))


@dataclass
class Teller:
    """Fills templates: remembers what is fixed for one story, and which fresh words it has just used."""

    rng: random.Random
    fixed: dict[str, str] = field(default_factory=dict)
    recent: dict[str, list[str]] = field(default_factory=dict)

    def fill(self, template: str) -> str:
        """The template with its choices made and its slots filled, in plain grammatical English."""
        return with_articles(" ".join(self._expand(template).split()))

    def _expand(self, template: str) -> str:
        while match := _CHOICE.search(template):
            chosen = self.rng.choice(match[1].split("|"))
            template = template[: match.start()] + chosen + template[match.end() :]
        return _SLOT.sub(lambda match: self._word(match[1], bool(match[2])), template)

    def _word(self, slot: str, many: bool) -> str:
        name = slot.lower()
        if name not in self.fixed and name in FIXED:
            self.fixed[name] = self._expand(self.rng.choice(FIXED[name]))
        word = self._expand(self.fixed[name] if name in self.fixed else self._fresh(name))
        word = plural(word) if many else word
        return word if slot == name else word[:1].upper() + word[1:]

    def _fresh(self, name: str) -> str:
        recent = self.recent.setdefault(name, [])
        pool: Sequence[str] = ASIDES if name == "aside" else FRESH[name]
        left = [word for word in pool if word not in recent[-3:] and word != self.fixed.get("noun")]
        recent.append(self.rng.choice(left or pool))
        return recent[-1]


@dataclass(frozen=True)
class Story:
    """A finished story, with the plot and the teller that can still answer questions about it."""

    text: str
    plot: Plot
    teller: Teller


def _name(rng: random.Random, male: bool, human: bool) -> str:
    """A name from the lists, or now and then one that nobody has borne: names are to be learned by copying."""
    if rng.random() < 0.05:
        return (rng.choice(SYLLABLES) + rng.choice((*SYLLABLES, "")) + rng.choice(NAME_ENDS)).capitalize()
    if human:
        return rng.choice(BOYS if male else GIRLS)
    return rng.choice(BEAST_BOYS if male else BEAST_GIRLS)


def _pronouns(male: bool, prefix: str) -> dict[str, str]:
    he, him, his = ("he", "him", "his") if male else ("she", "her", "her")
    return {f"{prefix}he": he, f"{prefix}him": him, f"{prefix}his": his}


def _creature(rng: random.Random, human: bool, male: bool) -> str:
    if human:
        return rng.choice(MEN if male else WOMEN)
    return rng.choice(rng.choice((WOODLAND, WOODLAND, FARM, FARAWAY, WATERSIDE, TINY, MAGICAL)))


def cast(rng: random.Random, plot: Plot) -> dict[str, str]:
    """Everything that stays the same through one story: who, with whom, what and where."""
    human, male, male_friend, male_elder = (rng.random() < p for p in (0.4, 0.5, 0.5, 0.5))
    human_friend = rng.random() < (0.6 if human else 0.1)
    hero, friend = _name(rng, male, human), _name(rng, male_friend, human_friend)
    while friend == hero:
        friend = _name(rng, male_friend, human_friend)
    kind, friend_kind, beast = _creature(rng, human, male), _creature(rng, human_friend, male_friend), ""
    while beast in ("", kind, friend_kind):
        beast = _creature(rng, False, True)
    adjective, friend_adjective = rng.sample(TRAITS, 2)
    noun = rng.choice(plot.things)
    looks = [word for word in LOOKS if not noun.startswith(word)]
    preposition, place = rng.choice(PLACES)
    wrong, right = rng.choice(SWAPS)
    lair, lair_place = rng.choice(LAIRS)
    named = ("his friend {friend}", "little {friend}", "{friend}", "{friend} from next door")
    return {
        "hero": hero, "friend": friend, "kind": kind, "fkind": friend_kind, "beast": beast, "adj": adjective,
        "a_hero": f"a {adjective} {'little ' if rng.random() < 0.3 and adjective != 'little' else ''}{kind}",
        "a_friend": f"a {friend_adjective} {friend_kind}",
        "newpal": f"a {friend_adjective} {friend_kind} named {friend}",
        "pal": rng.choice(named).replace("his", "{his}") if human_friend else "{friend} the {fkind}",
        **_pronouns(male, ""), **_pronouns(male_friend, "f"), **_pronouns(male_elder, "e"),
        "himself": "himself" if male else "herself", "himself_f": "himself" if male_friend else "herself",
        "elder": rng.choice(ELDERS_HE if male_elder else ELDERS_SHE),
        "home": rng.choice(HOMES_FOLK if human else HOMES_BEAST),
        "noun": noun, "thing": f"{rng.choice(rng.choice((looks, COLORS)))} {noun}",
        "a_snack": f"a {rng.choice(SNACKS)}",
        "place": place, "at": f"{preposition} {place}", "at_place": f"to {place}",
        "past_place": f"past {place}", "wrong": wrong, "right": right,
        "lair": lair, "lair_place": lair_place, "they_two": f"{hero} and {friend}",
        "lesson": rng.choice(plot.lessons),
    }  # fmt: skip


def tell(rng: random.Random, plot: Plot | None = None) -> Story:
    """A new story; of the given plot, or of any."""
    plot = plot or rng.choice(PLOTS)
    teller = Teller(rng, cast(rng, plot))
    for slot in ("home", "lesson"):  # their own choices are made once
        teller.fixed[slot] = teller._expand(teller.fixed[slot])
    paragraphs = [[rng.choice(OPENINGS), *rng.sample(DETAILS, rng.choice((0, 0, 1, 1, 2)))]]
    for beat in plot.beats:
        if beat == ("---",):
            paragraphs.append([])
        elif not beat[0].startswith("?"):
            paragraphs[-1].append(rng.choice(beat))
        elif rng.random() < 0.4:
            paragraphs[-1].append(rng.choice(beat).lstrip("?"))
    closing = [rng.choice(MORALS)] * (rng.random() < 0.55) + [rng.choice(ENDINGS)]
    if rng.random() < 0.5:
        paragraphs.append(closing)
    else:
        paragraphs[-1] += closing
    text = "\n\n".join(teller.fill(" ".join(lines)) for lines in paragraphs if any(lines))
    return Story(text, plot, teller)


def chat(rng: random.Random) -> list[Message]:
    """A request and its story, sometimes with a question about it, or with another story."""
    turns: list[tuple[str, str]] = []
    story = tell(rng)
    fill = story.teller.fill
    if rng.random() < 0.06:
        turns.append((fill((greeting := rng.choice(GREETINGS))[0]), fill(greeting[1])))
    turns.append((_request(rng, story), story.text))
    follow = rng.random()
    if follow < 0.4:
        pairs = rng.sample(QUESTIONS[:1] * 2 + QUESTIONS + story.plot.questions * 2, 2)
        turns += [(fill(question), fill(answer)) for question, answer in pairs[: rng.choice((1, 1, 2))]]
    elif follow < 0.48:
        other = tell(rng)
        turns.append((fill(rng.choice(AGAIN)) if rng.random() < 0.5 else _request(rng, other), other.text))
    if rng.random() < 0.12:
        turns.append((fill((thanks := rng.choice(THANKS))[0]), fill(thanks[1])))
    roles = ("user", "assistant")
    return [{"role": role, "content": text} for turn in turns for role, text in zip(roles, turn, strict=True)]


def _request(rng: random.Random, story: Story) -> str:
    """What a listener might say to be told this very story."""
    if rng.random() < 0.07:
        return story.teller.fill(rng.choice(BARE_REQUESTS))
    template = rng.choice(REQUESTS).replace("{ask}", rng.choice(story.plot.asks))
    request = story.teller.fill(template)
    if rng.random() < 0.15:  # typed in haste
        request = request.rstrip(".!?")
        request = request[:1].lower() + request[1:] if rng.random() < 0.5 and request[:2] != "I " else request
    return request


def documents(seed: int, *, chats: float = 0.25) -> Iterator[Document]:
    """Documents without end: plain stories, and conversations in the given share."""
    rng = random.Random(seed)
    while True:
        yield chat(rng) if rng.random() < chats else tell(rng).text


def render(document: Document) -> str:
    """A document as the tokenizer reads it in training, special tokens and all."""
    if isinstance(document, str):
        return f"{BOS}{document}{EOS}"
    marks: dict[str, Any] = {"user": (USER, ""), "assistant": (ASSISTANT, EOS)}
    return BOS + "".join(f"{marks[m['role']][0]}{m['content']}{marks[m['role']][1]}" for m in document)


def corpus(seed: int, count: int, *, chats: float = 0.25) -> list[str]:
    """The first ``count`` documents of a seed, rendered."""
    return [render(document) for document in islice(documents(seed, chats=chats), count)]
