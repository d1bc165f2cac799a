// Scores of the search: as in Sphinx, but a page that answers a question comes before methods and lessons that use its words.
var Scorer = {
  score: ([docname, title, anchor, descr, score, filename, kind]) => {
    if (docname.startsWith("guide/") || docname.startsWith("coming_from/")) return score + 6;
    if (descr && descr.includes("Python method")) return score - 10;
    return score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
