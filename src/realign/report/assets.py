"""The report's style and its small script; everything works without the script but sorting."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --page: #fbfbf9; --card: #ffffff; --line: #d9dce1;
  --faint: #5d6673; --accent: #0067a3; --holds: #17683a; --fails: #a3262a; --undecided: #7a5a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaee; --page: #14181d; --card: #1d2229;
  --line: #3a424d; --faint: #a3adba; --accent: #6cb8ea; --holds: #6fd197; --fails: #ff8f8f;
  --undecided: #e7c35c; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 3.5rem; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
main, header, footer { max-width: 72rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; }
h1 { font-size: clamp(1.6rem, 4vw, 2.4rem); line-height: 1.2; margin: 0 0 .5rem; text-wrap: balance; }
h2 { margin: 3rem 0 1rem; padding-bottom: .3rem; border-bottom: 2px solid var(--line); }
h3 { margin: 2rem 0 .5rem; }
p:not(.warning) { max-width: 46rem; }
a { color: var(--accent); }
.question { font-size: 1.2rem; color: var(--faint); }
.answer { font-size: 1.15rem; border-left: 4px solid var(--accent); padding: .4rem 0 .4rem 1rem; }
.scope { margin: 1rem 0 .75rem; padding: .6rem 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; }
.scope h2 { margin: 0 0 .3rem; padding: 0; border: 0; font-size: 1rem; }
.scope p { margin: .3rem 0; max-width: none; }
.warning { margin: 0; background: #b00020; color: #fff; padding: .6rem 1rem; font-weight: 600;
  text-align: center; }
nav { position: sticky; top: 0; background: var(--page); border-bottom: 1px solid var(--line); z-index: 2; }
nav div { max-width: 72rem; margin: 0 auto; padding: .5rem 1.25rem; display: flex; gap: 1.25rem;
  overflow-x: auto; white-space: nowrap; }
nav a { text-decoration: none; }
.claims { display: grid; gap: .75rem; }
details.claim { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
details.claim > summary { padding: .75rem 1rem; cursor: pointer; display: flex; gap: .75rem;
  flex-wrap: wrap;
  align-items: baseline; }
details.claim > summary .says { flex: 1 1 20rem; }
details.claim > div { padding: 0 1rem 1rem; }
.verdict { font-weight: 700; min-width: 7.5rem; }
.holds { color: var(--holds); } .fails { color: var(--fails); } .undecided { color: var(--undecided); }
.faint { color: var(--faint); font-size: .9rem; }
figure { margin: 1.5rem 0; background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .75rem; break-inside: avoid; }
figure img { width: 100%; height: auto; background: #fff; display: block; border-radius: .25rem; }
figure > a { display: block; cursor: zoom-in; }
figcaption { padding: .6rem .25rem 0; font-size: .95rem; }
figure .close { display: none; }
figure:target { position: fixed; inset: 0; margin: 0; z-index: 9; overflow: auto; border-radius: 0; }
figure:target img { width: max(160%, 1900px); max-width: none; }
figure:target .close { display: block; position: fixed; top: .6rem; right: 1.2rem; background: #000;
  color: #fff; padding: .3rem 1rem; border-radius: 1rem; cursor: zoom-out; }
details.claim, details.claim > div { min-width: 0; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  overflow-wrap: break-word; min-width: 4rem; }
th { position: sticky; top: 0; background: var(--card); }
table.sortable th { cursor: pointer; }
th[aria-sort="ascending"]::after { content: " \\2191"; }
th[aria-sort="descending"]::after { content: " \\2193"; }
th.number, td.number { text-align: right; }
td.number { white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
footer { padding: 3rem 1.25rem; color: var(--faint); font-size: .9rem; }
@media (max-width: 40rem) { body { font-size: 15px; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; }
  figure { padding: .4rem; margin-inline: -.5rem; } }
@media print { nav { display: none !important; } details.claim > div { display: block; } }
"""

# Sorts a table by the column whose head is pressed; numbers by value, blanks last.
SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.tabIndex = 0; head.setAttribute("role", "button");
    const value = row => { const c = row.cells[column]; const raw = c.dataset.value ?? c.textContent.trim();
      const n = Number(raw); return raw === "" ? null : Number.isNaN(n) ? raw.toLowerCase() : n; };
    const sort = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].sort((a, b) => {
        const x = value(a), y = value(b);
        if (x === null || y === null) return (x === null) - (y === null);
        const order = typeof x === typeof y ? (x > y) - (x < y) : typeof x === "number" ? -1 : 1;
        return down ? -order : order; });
      body.append(...rows);
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", e => {
      if (e.key === "Enter" || e.key === " ") { e.preventDefault(); sort(); } });
  });
}
document.addEventListener("keydown", e => { if (e.key === "Escape" && location.hash.startsWith("#zoom-"))
  location.hash = location.hash.replace("#zoom-", "#"); });
"""
