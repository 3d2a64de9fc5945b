"""Whether everybody can use the live page: without a mouse, by a screen reader, with eyes that need contrast.

Promise: what is not said here was reached by Tab with a focus that shows, answers to Enter, has a name where a screen
reader says one, keeps its place in its table at any width, and is written at 4.5:1 or better.
"""

from collections import Counter

NAMED = {"article", "button", "columnheader", "DisclosureTriangle", "DisclosureTriangleGrouped", "heading", "image", "img", "link", "region"}
CELLS = {"cell", "gridcell", "columnheader", "rowheader"}
LEGIBLE, VISIBLE = 4.5, 3.0  # WCAG 2.2, 1.4.3 for text and 1.4.11 for what shows the focus

# What all questions share: names of nodes for people, what can be operated, and colours as they come out on the screen.
SHARED = """
  const said = node => `<${node.localName}> ${(node.getAttribute("aria-label") ?? node.textContent).trim().slice(0, 60)}`;
  const operable = () => [...document.querySelectorAll("a[href], button, summary, input, select, textarea, [tabindex]")].filter(node => node.tabIndex >= 0 && node.checkVisibility());
  const rgba = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = ([r, g, b, a], under) => [r, g, b].map((part, i) => part * a + under[i] * (1 - a)).concat(1);
  // An element's colour and what it stands on, groups that are transparent as a whole included.
  const painted = (node, colour) => {
    const chain = [];
    for (let at = node; at; at = at.parentElement) chain.unshift(getComputedStyle(at));
    const paint = (i, under) => {
      if (i === chain.length) return [over(colour, under), under];
      return paint(i + 1, over(rgba(chain[i].backgroundColor), under)).map(([r, g, b]) => over([r, g, b, Number(chain[i].opacity)], under));
    };
    return paint(0, [255, 255, 255, 1]);
  };
  const light = ([r, g, b]) => [[r, .2126], [g, .7152], [b, .0722]].reduce((sum, [part, weight]) =>
    sum + weight * (part / 255 <= .04045 ? part / 255 / 12.92 : ((part / 255 + .055) / 1.055) ** 2.4), 0);
  const contrast = (node, colour) => {
    const [lower, higher] = painted(node, rgba(colour)).map(light).sort((a, b) => a - b);
    return (higher + .05) / (lower + .05);
  };
"""

FOCUSED = """
  const node = document.activeElement, style = getComputedStyle(node), box = node.getBoundingClientRect();
  if (node === document.body) return null;
  const again = window.reached.has(node), problems = [];
  window.reached.add(node);
  const edge = parseFloat(style.outlineWidth) + parseFloat(style.outlineOffset);
  if (style.outlineStyle === "none" || !parseFloat(style.outlineWidth)) problems.push("has no outline");
  else if (contrast(node.parentElement, style.outlineColor) < VISIBLE) problems.push("has an outline that hardly shows");
  if (box.bottom < 0 || box.top > innerHeight || box.right < 0 || box.left > innerWidth) problems.push("is outside of what is seen");
  for (let at = node.parentElement; at && at !== document.body; at = at.parentElement) {
    if (getComputedStyle(at).overflow === "visible" || !(edge > 0)) continue;
    const clip = at.getBoundingClientRect();
    if (box.left - edge < clip.left - .5 || box.top - edge < clip.top - .5 || box.right + edge > clip.right + .5 || box.bottom + edge > clip.bottom + .5)
      problems.push(`has an outline that <${at.localName} class="${at.className}"> cuts off`);
  }
  return { again, problems: problems.map(problem => `focused, ${said(node)} ${problem}`) };
""".replace("VISIBLE", str(VISIBLE))

CONTRAST = """
  const problems = new Set();
  const judge = (node, style, what) => {
    const ratio = contrast(node, style.color);
    if (ratio < LEGIBLE) problems.add(`${what}: ${style.color} has ${ratio.toFixed(2)}:1`);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (texts.currentNode.data.trim() && !node.closest("script, style, noscript") && node.checkVisibility()) judge(node, getComputedStyle(node), said(node));
  }
  for (const node of document.querySelectorAll("body *")) {
    const before = getComputedStyle(node, "::before");
    if (node.checkVisibility() && /^["a]../.test(before.content)) judge(node, before, `before ${said(node)}`);
  }
  return [...problems];
""".replace("LEGIBLE", str(LEGIBLE))

# A row or a cell that CSS lays out as anything but a table's part is none to some screen readers, unless it says so.
DISPLAYED = """
  return [...document.querySelectorAll("table, thead, tbody, tr, th, td")].filter(node => node.checkVisibility() && !node.hasAttribute("role") &&
    !getComputedStyle(node).display.startsWith("table")).map(node => `${said(node)} is laid out as ${getComputedStyle(node).display} and has no role`);
"""


def _ask(page, body):
    return page.ask(f"(() => {{{SHARED}{body}}})()")


def problems(page):
    """All that can be said of the page as it is now, without operating it."""
    return [*keyboard(page), *screen_reader(page), *_ask(page, CONTRAST)]


def keyboard(page):
    """Problems: what Tab does not reach, and where the focus cannot be seen."""
    there = _ask(page, """
      window.reached = new Set(); window.wanted = operable();
      document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute("tabindex"); scrollTo(0, 0);
      return window.wanted.length;""")
    found = []
    for _ in range(2 * there + 10):  # a live page may get more of them meanwhile
        page.press("Tab")
        if (at := _ask(page, FOCUSED)) is None or at["again"]:
            break
        found += at["problems"]
    missed = _ask(page, "return window.wanted.filter(node => node.isConnected && !window.reached.has(node)).map(said);")
    return found + [f"Tab does not reach {node}" for node in missed] + ["there is nothing to operate"] * (not there)


def screen_reader(page):
    """Problems: what has no name, and tables that a screen reader does not see as they are seen."""
    nodes = {node["nodeId"]: node for node in page.call("Accessibility.getFullAXTree")["nodes"]}
    seen = [node for node in nodes.values() if not node["ignored"]]
    unnamed = Counter(_role(node) for node in seen if _role(node) in NAMED and not node.get("name", {}).get("value", "").strip())
    found = [f"{count} of role {role} have no name" for role, count in unnamed.items()] + _ask(page, DISPLAYED)
    for table in (node for node in seen if _role(node) == "table"):
        rows = [[_role(cell) for cell in _within(nodes, row, CELLS)] for row in _within(nodes, table, {"row"})]
        if len({len(row) for row in rows}) > 1:
            found.append(f"a table has rows of {sorted({len(row) for row in rows})} cells, by rows: {rows[:2]}")
    shown = _ask(page, """return ["tr", "td, th"].map(query => [...document.querySelectorAll(query)].filter(node => node.checkVisibility() && !node.closest("[aria-hidden=true]")).length);""")
    told = [sum(_role(node) in roles for node in seen) for roles in ({"row"}, CELLS)]
    if shown != told:
        found.append(f"of {shown} rows and cells a screen reader is told {told}")
    return found


def _role(node):
    return node.get("role", {}).get("value")


def _within(nodes, node, roles):
    """What is below a node and has one of the roles, not looking into that."""
    for child in (nodes[each] for each in node.get("childIds", ()) if each in nodes):
        if not child["ignored"] and _role(child) in roles:
            yield child
        else:
            yield from _within(nodes, child, roles)


# What Enter is pressed on, and what is true of it (`node`) thereafter and not before.
CHOICES = [
    ("a start", "[...document.querySelectorAll('#windows .starts button[aria-pressed=false]')][0]",
     "node.matches('[aria-pressed=true]') && node.closest('article').querySelector('p.sum').textContent.includes(node.title.split(': ')[0])"),
    ("a sealed row", "[...document.querySelectorAll('#sealed tbody button')].at(-1)",
     "(open => open?.querySelector('summary').textContent.includes(node.title) && open.querySelector('tbody tr'))(node.closest('article').querySelector('details[open]'))"),
]
CLOSED = "[...document.querySelectorAll('main details:not([open]) > summary')].filter(node => node.checkVisibility())"


def operate(page):
    """Problems: what Enter does not do. It leaves everything open that can be opened."""
    found = [problem for choice in CHOICES for problem in _enter(page, *choice)]
    for _ in range(page.ask(f"{CLOSED}.length")):
        found += _enter(page, "what opens", f"{CLOSED}[0]", "node.parentElement.open")
    return found


def _enter(page, what, where, then):
    page.ask(f"(window.operated = {where})?.focus()")
    is_so = f"Boolean((node => node && {then})(window.operated))"
    if not page.ask("Boolean(window.operated)"):
        return [f"there is not {what}"]
    if page.ask(is_so):
        return [f"{what} was chosen before Enter"]
    page.press("Enter")
    try:
        page.until(is_so, seconds=5)
    except TimeoutError:
        return [f"Enter on {what} changes nothing"]
    return []
