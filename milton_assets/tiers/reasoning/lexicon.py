"""The words that carry no name of their own: what joins, denies, doubts and dates the words of an answer.

What belongs here: closed classes of English words, in their comparable form (`text`). What does not: rules.
"""

from __future__ import annotations

LINKS = frozenset({"of", "for", "in", "on", "at", "by", "from", "to", "and", "with", "as"})
COPULAS = frozenset({"is", "was", "are", "were", "be", "been", "being", "remains", "became", "becomes"})
AUXILIARIES = frozenset({
    "do", "does", "did", "has", "have", "had", "can", "could", "would", "will", "shall", "should", "may", "might",
    "must", "am",
})  # fmt: skip
PRONOUNS = frozenset({
    "i", "you", "he", "she", "it", "we", "they", "me", "him", "her", "us", "them", "my", "your", "his", "its", "our",
    "their", "this", "that", "these", "those", "who", "whom", "whose", "which", "what", "there", "here", "where",
    "when", "how", "why", "someone", "something", "one's",
})  # fmt: skip
PREPOSITIONS = LINKS | {
    "about", "above", "across", "after", "against", "along", "among", "around", "before", "behind", "below", "beside",
    "between", "beyond", "during", "except", "inside", "into", "near", "off", "onto", "over", "since", "than",
    "through", "throughout", "toward", "towards", "under", "until", "upon", "via", "within", "without", "per",
}  # fmt: skip
CONJUNCTIONS = frozenset({
    "but", "or", "nor", "so", "yet", "if", "because", "although", "though", "while", "whereas", "whether", "unless",
    "then", "however", "therefore", "thus", "hence", "rather", "instead", "else", "otherwise",
})  # fmt: skip
ADVERBS = frozenset({
    "not", "never", "no", "only", "just", "also", "too", "very", "even", "still", "already", "now", "today", "once",
    "often", "always", "etc", "such", "both", "all", "each", "every", "any", "some", "many", "most", "more", "other",
    "others", "another", "same", "well", "quite", "actually", "really", "indeed", "simply", "called", "known", "named",
    "made", "make", "makes", "respectively", "yes", "sure", "ok", "okay", "please", "a", "an", "the",
})  # fmt: skip
HEDGES = frozenset({
    "maybe", "perhaps", "possibly", "probably", "likely", "presumably", "either", "might", "may", "could", "say",
    "says", "claim", "think", "believe", "guess", "supposedly", "allegedly", "alternatively", "arguably",
})  # fmt: skip
FUNCTION_WORDS = COPULAS | AUXILIARIES | PRONOUNS | PREPOSITIONS | CONJUNCTIONS | ADVERBS | HEDGES
"""Words of a sentence that are no candidates for an answer."""

NEGATORS = frozenset({"not", "never", "no", "neither", "nor", "unlike", "except", "without", "hardly", "scarcely"})
DOUBTERS = frozenset({
    "doubt", "doubts", "doubtful", "unlikely", "false", "incorrect", "wrong", "mistaken", "untrue", "deny", "denies",
    "denied", "impossible", "misconception", "myth",
})  # fmt: skip
FORMER = frozenset({"formerly", "once", "previously", "originally", "former", "used", "until"})
PRESENT = frozenset({"now", "today", "currently", "nowadays", "presently", "anymore"})

PARTICLES = frozenset(
    {"van", "von", "de", "da", "di", "del", "della", "der", "den", "du", "la", "le", "bin", "al", "y"}
)
TITLES = frozenset({
    "mr", "mrs", "ms", "dr", "sir", "dame", "lord", "lady", "king", "queen", "prince", "princess", "emperor", "pope",
    "saint", "st", "president", "professor", "prof", "general", "captain", "colonel", "senator", "governor", "minister",
    "chancellor", "judge", "father", "mother", "brother", "sister", "actor", "actress", "singer", "author", "writer",
    "justice", "composer", "painter", "poet", "director", "physicist", "chemist", "answer",
})  # fmt: skip

PEOPLES = frozenset({
    ("america", "american"), ("united states", "american"), ("britain", "british"), ("united kingdom", "british"),
    ("england", "english"), ("scotland", "scottish"), ("wales", "welsh"), ("ireland", "irish"), ("france", "french"),
    ("spain", "spanish"), ("portugal", "portuguese"), ("netherlands", "dutch"), ("holland", "dutch"),
    ("switzerland", "swiss"), ("germany", "german"), ("denmark", "danish"), ("sweden", "swedish"),
    ("norway", "norwegian"), ("finland", "finnish"), ("iceland", "icelandic"), ("poland", "polish"),
    ("greece", "greek"), ("turkey", "turkish"), ("china", "chinese"), ("japan", "japanese"), ("thailand", "thai"),
    ("philippines", "filipino"), ("peru", "peruvian"), ("iraq", "iraqi"), ("israel", "israeli"), ("cuba", "cuban"),
    ("mexico", "mexican"), ("canada", "canadian"), ("brazil", "brazilian"), ("argentina", "argentine"),
    ("egypt", "egyptian"), ("congo", "congolese"), ("cyprus", "cypriot"), ("czechia", "czech"),
    ("hungary", "hungarian"), ("italy", "italian"), ("belgium", "belgian"), ("ukraine", "ukrainian"),
})  # fmt: skip
"""A country or land and its people, in words that are no regular ending apart."""
