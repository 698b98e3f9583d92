"""Words and sentence patterns for the generated half of the corpus. Data only; all of it written for this project."""

FIRST_NAMES = (
    "Anna Ben Carla David Emma Frank Grace Henry Irene Jack Karen Liam Maria Noah Olivia Peter Quinn Rosa Sam "
    "Tina Victor Wendy Yusuf Zoe Amir Bianca Chen Diego Elena Fatima George Hannah Ivan Julia Kevin Laura Michael "
    "Nadia Oscar Priya Rachel Steven Thomas Ursula Vera William Alice Robert Charlotte Daniel Ethan Fiona Gabriel "
    "Helen Isabel James Kate Lucas Martha Nathan Paul Ruth Simon Teresa Andrew Beth Sophie Leo Mia Max Ravi Aisha"
).split()
LAST_NAMES = (
    "Smith Johnson Brown Taylor Miller Wilson Moore Anderson Thomas Jackson White Harris Martin Thompson Garcia "
    "Martinez Robinson Clark Lewis Lee Walker Hall Allen Young King Wright Scott Green Baker Adams Nelson Carter "
    "Mitchell Perez Roberts Turner Phillips Campbell Parker Evans Edwards Collins Stewart Morris Rogers Reed Cook "
    "Morgan Bell Murphy Bailey Cooper Richardson Cox Howard Ward Peterson Gray Watson Brooks Kelly Sanders Price "
    "Patel Nguyen Kim Singh Khan Schmidt Rossi Novak Silva Tanaka"
).split()
PLACES = (
    "London|Paris|New York|Chicago|Boston|Tokyo|Berlin|Madrid|Rome|Sydney|Toronto|Dublin|Seattle|Denver|Austin|"
    "San Francisco|Los Angeles|Vienna|Prague|Lisbon|Oslo|Stockholm|Amsterdam|Mumbai|Singapore|Hong Kong|Cairo|"
    "Nairobi|Cape Town|Mexico City|Rio de Janeiro|Buenos Aires|Vancouver|Edinburgh|Munich|Zurich|Athens|Istanbul|"
    "Dubai|Seoul|Bangkok|Melbourne|Auckland|Miami|Atlanta|Houston|Philadelphia|Portland|California|Texas|Canada|"
    "France|Germany|Japan|India|Brazil|Australia|Spain|Italy|Kenya|Norway|Poland|Ireland|Scotland|Egypt"
).split("|")
MONTHS = (
    "January February March April May June July August September October November December"
).split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
THINGS = (
    "the report|the meeting|the old bridge|my phone|your order|the garden|the kitchen|a new battery|the blue folder|"
    "the train|the weather|the front door|the window|this recipe|the second chapter|your password|the invoice|"
    "the project|the budget|the software|the server|the update|the picture|a cup of coffee|the library|the hospital|"
    "the market|the music|a glass of water|the engine|the price|the contract|the schedule|the playlist|the camera|"
    "the answer|the question|the new version|the other option|your account|the box on the table|the river|the dog|"
    "the children|our neighbors|the washing machine|the living room light|the thermostat|the shopping list|the map|"
    "a birthday cake|the green button|the settings page|an email|the whole story|the last bus|the airport|the hotel|"
    "the research team|the museum|the law|the science fair|the first draft|that mistake|the experiment|the keyboard"
).split("|")
ADJECTIVES = (
    "quick|slow|difficult|easy|strange|wonderful|quiet|loud|expensive|cheap|important|useful|beautiful|terrible|"
    "interesting|boring|dangerous|safe|simple|complicated|fresh|bright|dark|heavy|light|warm|cold|perfect|broken|"
    "available|possible|impossible|ready|late|early|careful|common|rare|popular|private|public|healthy|tired|happy|"
    "nervous|generous|honest|reasonable|surprising|obvious|unusual|efficient|reliable|delicious|comfortable"
).split("|")
VERBS = (
    "check|open|close|finish|move|send|find|keep|change|explain|describe|replace|repair|remember|forget|discuss|"
    "share|read|review|cancel|confirm|delete|save|measure|compare|paint|sell|buy|bring|return|choose|improve|test|"
    "restart|translate|summarize|look at|think about|talk about|wait for|listen to|pay for|write down|turn off"
).split("|")
ACTIVITIES = (
    "swimming|reading|cooking|walking|driving|singing|writing code|learning Spanish|playing chess|painting|hiking|"
    "watching movies|riding a bicycle|baking bread|taking photographs|working from home|growing tomatoes|dancing|"
    "traveling by train|studying history|practicing the piano|running in the park|fixing old radios|fishing"
).split("|")
NOUNS = (
    "apples|books|chairs|tickets|people|students|minutes|miles|messages|pages|bottles|eggs|birds|boats|windows|"
    "questions|examples|photos|songs|doctors|teachers|computers|trees|cars|islands|planets|languages|sandwiches|"
    "keys|coins|letters|shirts|flowers|engineers|customers|files|errors|steps|rooms|stars|horses|villages|options"
).split("|")
TOPICS = (
    "photosynthesis|gravity|the water cycle|machine learning|compound interest|the Roman Empire|volcanoes|jazz|"
    "the immune system|solar energy|electric cars|the stock market|quantum physics|ancient Egypt|climate change|"
    "the human brain|black holes|the internet|public transport|modern art|vitamins|renewable power|the printing press|"
    "evolution|democracy|inflation|artificial intelligence|the periodic table|whales|earthquakes|coffee|chocolate"
).split("|")
ACRONYMS = "FBI|NASA|USB|API|CPU|GPS|DNA|TV|PDF|UK|US|CEO|ATM|BBC|PC|URL|FAQ|VIP|HTML|SQL".split(
    "|"
)
OPENERS = (
    "Well,|Actually,|Of course,|However,|For example,|In other words,|Honestly,|By the way,|Unfortunately,|"
    "First of all,|On the other hand,|As a result,|In general,|After that,|Sure,|Okay,|Right,|Yes,|No,|Hmm,|Oh,|"
    "To be fair,|In short,|Luckily,|Meanwhile,|At the same time,|Finally,|Then,|So,|Also,|Now,"
).split("|")
CONNECTORS = (
    ", and|, but|, so|, because|, although|, while|, which means that|; however,|, and then|, or|, even though|"
    ", as|, since|: in fact,|, yet|, unless"
).split("|")

SHORT = (
    "Yes.|No.|Hello!|Hi there.|Okay.|Sure.|Thanks.|Thank you.|Thank you very much.|Sorry.|Good morning.|"
    "Good night!|Welcome back.|Of course.|Absolutely.|Maybe.|Maybe later.|Not yet.|I see.|Got it.|All right.|Stop.|"
    "Wait.|Please wait.|One moment, please.|Really?|Why?|Why not?|What?|Who?|When?|Where is it?|How come?|Great!|"
    "Excellent.|Perfect.|Well done!|Good idea.|No problem.|You're welcome.|Never mind.|That's right.|That's wrong.|"
    "I don't know.|I'm not sure.|Let me check.|Let me think.|Here you go.|Come in.|Goodbye.|See you soon.|Bye.|"
    "Exactly.|Indeed.|True.|False.|Done.|Ready?|Ready.|Go ahead.|Try again.|Hmm.|Oh.|Wow!|Oh no!|Ha!|Well.|Right.|"
    "Yes, please.|No, thanks.|Me too.|Not at all.|It depends.|Good question.|Hold on.|Be careful!|Look!|Listen."
).split("|")

PATTERNS = (
    "{opener} I can help you with that.",
    "{opener} I think {thing} is {adj}.",
    "{opener} we should {verb} {thing} before {day}.",
    "Could you {verb} {thing} for me?",
    "Would you like me to {verb} {thing}?",
    "Do you want to {verb} {thing}, or should we {verb} {thing} instead?",
    "Hi {first}, this is {first} from {place}.",
    "My name is {first} {last}, and I live in {place}.",
    "{first} asked {first} whether {thing} was {adj}.",
    "{first} and {first} are {activity} together.",
    "Dr. {last} will see you at {time}.",
    "Mr. {last} and Mrs. {last} arrived on {month} {dom}.",
    "The meeting with {first} {last} is on {day}, {month} {dom}, at {time}.",
    "It was built in {year} and repaired in {year}.",
    "On {month} {dom}, {year}, {first} {last} moved to {place}.",
    "There are {num} {noun} in {thing}.",
    "We counted {num} {noun} and {num} {noun}.",
    "{first} bought {num} {noun} for ${price}.",
    "The total comes to ${price}.",
    "About {percent}% of the {noun} were {adj}.",
    "It takes {num} minutes to get from {place} to {place}.",
    "The distance is {num}.{digit} kilometers.",
    "The temperature in {place} is {temp} degrees.",
    "Call {phone} and ask for {first}.",
    "Your code is {digit} {digit} {digit} {digit}.",
    "Room {num3}, on the {ordinal} floor.",
    "This is the {ordinal} time that {first} forgot {thing}.",
    "Chapter {small}: {topic}.",
    "Step {small}: {verb} {thing}.",
    "First, {verb} {thing}. Second, {verb} {thing}. Third, {verb} {thing}.",
    "What is {topic}?",
    "What do you know about {topic}?",
    "Can you explain {topic} in simple words?",
    "How does {topic} work, and why is it {adj}?",
    "Here is a short summary of {topic}.",
    "{topic_cap} is more {adj} than most people think.",
    "Let's talk about {topic}, {topic}, and {topic}.",
    "Why is {thing} so {adj}?",
    "Where did you put {thing}?",
    "When does {thing} arrive in {place}?",
    "Who told {first} about {thing}?",
    "How many {noun} do you need?",
    "How much does {thing} cost?",
    "Is {thing} {adj} or {adj}?",
    "Isn't {activity} {adj}?",
    "{first} loves {activity}, but {first} prefers {activity}.",
    "{activity_cap} is {adj}, {adj}, and surprisingly {adj}.",
    '"{verb_cap} {thing}," said {first}.',
    '"Where is {thing}?" asked {first}.',
    '"I don\'t like {activity}," {first} said, "but {first} does."',
    "{first} said: {verb} {thing}, then {verb} {thing}.",
    "I'm sorry, but {thing} isn't {adj}.",
    "I'm afraid I can't {verb} {thing} right now.",
    "I've already {past} {thing}.",
    "You're right, {thing} wasn't {adj}.",
    "They'll {verb} {thing} when they get to {place}.",
    "We'd better {verb} {thing}; it's getting {adj}.",
    "She hasn't {past} {thing} yet.",
    "If you {verb} {thing}, it will be {adj}.",
    "If {thing} is too {adj}, {verb} {thing} again.",
    "Please don't {verb} {thing} until {time}.",
    "Don't worry, {thing} is {adj}.",
    "That sounds {adj}!",
    "What a {adj} idea!",
    "How {adj}!",
    "Turn left at {thing}, and walk {num} meters.",
    "Your appointment is at {time} on {day}.",
    "Set a timer for {small} minutes.",
    "Remind me to {verb} {thing} at {time}.",
    "It's {time} in {place}, and it's {adj} outside.",
    "The next train to {place} leaves at {time} from platform {small}.",
    "Flight {digit}{digit}{digit} to {place} has been delayed by {num} minutes.",
    "Today is {day}, the {ordinal} of {month}.",
    "In {year}, {num} {noun} were sold in {place}.",
    "{num} plus {num} equals {num}.",
    "{small} out of {num} {noun} are {adj}.",
    "The {acronym} and the {acronym} are not the same thing.",
    "Connect the {acronym} cable, then open the {acronym}.",
    "According to {first} {last}, {topic} changed {place} for ever.",
    "In {place}, {topic} is {adj}; in {place}, it's {adj}.",
    "There's nothing {adj} about {activity}.",
    "Have you ever been to {place} in {month}?",
    "I was {activity} when {first} called.",
    "{first} used to live in {place}, near {thing}.",
    "Nobody knows why {thing} was {adj} in {year}.",
    "Some {noun} are {adj}, others are {adj}, and a few are {adj}.",
    "The {noun}, the {noun}, and the {noun} belong to {first}.",
    "Which is better: {thing} or {thing}?",
    "You can {verb} {thing} by pressing the {adj} button.",
    "It isn't {adj} to {verb} {thing} without asking {first}.",
    "To {verb} {thing}, you need {num} {noun} and a lot of patience.",
    "Thank you for calling; {first} {last} will {verb} {thing} shortly.",
    "Congratulations, {first}!",
    "Good morning, {first}. Did you sleep well?",
    "Hello, {first}! How are you today?",
    "I'd like {small} {noun} and {thing}, please.",
    "{thing_cap} is {adj}.",
    "{thing_cap} was more {adj} than {thing}.",
    "{thing_cap} and {thing} are both {adj}.",
    "One of the {noun} was {adj}, wasn't it?",
)
