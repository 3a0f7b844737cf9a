"""The page in a real browser: no errors, no requests, tables that sort, a viewer that follows slider and keys."""

import json
import shutil

import pytest
from synthetic import certificate, identity, write_done

from circuitmeter.reports.page.circuit_page import circuit_page
from circuitmeter.reports.page.circuit_view import Arrow, CircuitView
from circuitmeter.reports.page.table import MISSING
from circuitmeter.reports.write import write_report
from circuitmeter.suite.model.features.graph import FeatureGraph, SiteNodes
from circuitmeter.suite.model.features.site import Site
from circuitmeter.suite.model.graph import Edge, Graph
from circuitmeter.suite.model.position_graph import PositionGraph
from circuitmeter.suite.store.store import Store

LEADERBOARD = "[aria-labelledby=leaderboard-table]"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def features():
    """A graph whose attention and MLP are taken apart into features."""
    sites = (SiteNodes(Site(0, "attn_out"), (3,), "d"), SiteNodes(Site(0, "mlp_out"), (7, 11, 16383), "d"))
    return FeatureGraph(n_layers=1, n_heads=2, inputs="split", sites=sites)


@pytest.fixture(scope="module")
def browser():
    driver = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the PATH")
    with driver.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def opened(browser, report):
    """The usual report's page; afterwards: no error was logged, and nothing but the page was asked for."""
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    said, requests = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((report / "report.html").as_uri())
    yield page
    assert said == [] and [url for url in requests if not url.startswith("data:")] == [page.url]
    page.close()


def column(page, place):
    return page.locator(f"{LEADERBOARD} tbody tr td:nth-child({place})").all_inner_texts()


def test_a_heading_sorts_its_table_and_turns_it_around(opened):
    heading = opened.locator(f"{LEADERBOARD} th button", has_text="AUC").first
    heading.click()
    descending = [float(text.split()[0]) for text in column(opened, 3)]
    assert descending == sorted(descending, reverse=True) and len(set(descending)) > 3
    heading.click()
    ascending = [float(text.split()[0]) for text in column(opened, 3)]
    assert ascending == sorted(ascending) and opened.locator(f"{LEADERBOARD} th[aria-sort=ascending]").count() == 1
    opened.locator(f"{LEADERBOARD} th button", has_text="Method").focus()
    opened.keyboard.press("Enter")
    assert column(opened, 1) == sorted(column(opened, 1))


def test_the_slider_changes_the_circuit(opened):
    viewer = opened.locator("#viewer")
    viewer.locator("[name=method]").select_option(label="exact")
    size = viewer.locator("[name=size]")
    true_size = int(size.input_value())
    assert sum(viewer.locator(f"svg.circuit .edge.{kind}").count() for kind in ("found", "missed")) == true_size
    size.fill("0")
    assert viewer.locator("svg.circuit .edge.missed").count() == true_size
    assert viewer.locator("svg.circuit .edge.found").count() == 0
    size.focus()
    for _ in range(true_size + 2):
        opened.keyboard.press("ArrowRight")
    assert size.input_value() == str(true_size + 2)
    kinds = {kind: viewer.locator(f"svg.circuit .edge.{kind}").count() for kind in ("found", "added", "optional")}
    assert sum(kinds.values()) == true_size + 2 and kinds["found"] > 0
    assert f"{true_size + 2} of" in viewer.locator("[data-counts]").inner_text()


def test_kinds_of_edges_differ_without_colour(opened):
    script = """(kind) => { const s = getComputedStyle(document.querySelector(`.key .edge.${kind}`));
                            return [s.strokeDasharray, s.strokeWidth].join(); }"""
    looks = {kind: opened.evaluate(script, kind) for kind in ("found", "missed", "added", "optional")}
    assert len(set(looks.values())) == 4


def test_edges_and_nodes_say_their_names_and_scores(opened):
    title = opened.locator("#viewer .touch title").first.text_content()
    assert "\u2192" in title and ("score" in title or "rank" in title)
    node = opened.locator("#viewer .node[tabindex='0']").first
    node.focus()
    about = opened.locator("#viewer [data-about]")
    assert (
        about.inner_text().startswith(f"{node.locator('text').text_content()}: ")
        and opened.locator("#viewer svg.dimmed .edge.lit").count() > 0
    )
    opened.locator("#viewer summary").click()
    row = opened.locator("#viewer tbody tr").first
    row.focus()
    assert row.locator("td").first.inner_text() in about.inner_text()
    opened.locator("#viewer [name=method]").select_option(label="eap")
    shown = [text for text in opened.locator("#viewer tbody td:nth-child(4)").all_inner_texts() if text != MISSING]
    given = json.loads(opened.locator("#circuit-data").text_content())["views"][0]["methods"]
    (texts,) = (method["texts"] for method in given if method["label"] == "eap")
    assert len(shown) > 3 and set(shown) <= set(texts)  # as they are written into the page, like those of tables


def test_another_task_keeps_the_method(opened):
    opened.locator("#viewer [name=method]").select_option(label="eap")
    opened.locator("#viewer [name=task]").select_option(index=3)
    assert opened.locator("#viewer [name=method] option:checked").inner_text() == "eap"


def test_text_scales_and_nothing_is_wider_than_a_narrow_window(opened):
    script = "parseFloat(getComputedStyle(document.querySelector('td')).fontSize)"
    before = opened.evaluate(script)
    opened.evaluate("document.documentElement.style.fontSize = '32px'")
    assert opened.evaluate(script) == 2 * before
    opened.evaluate("document.documentElement.style.fontSize = ''")
    opened.set_viewport_size({"width": 400, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 400


def test_on_a_telephone_panels_stack_and_the_page_never_scrolls_sideways(opened):
    script = "[document.documentElement.scrollWidth, innerWidth]"
    for width in (360, 600, 1000):
        opened.set_viewport_size({"width": width, "height": 700})
        wide, window = opened.evaluate(script)
        assert wide <= window, width
        shown = opened.locator("figure .narrow").first.is_visible(), opened.locator("figure .wide").first.is_visible()
        assert shown == ((True, False) if width < 640 else (False, True)), width


def test_print_cuts_nothing_at_the_right_and_orphans_no_heading(opened):
    opened.emulate_media(media="print")
    opened.set_viewport_size({"width": 695, "height": 1000})  # A4 less its margins, at 96 dots an inch
    beyond = """() => [...document.querySelectorAll("td, th, figure svg, p, figcaption")]
        .filter((e) => e.offsetParent !== null || e.tagName === "svg")
        .filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
        .map((e) => e.tagName + ": " + e.textContent.slice(0, 40))"""
    assert opened.evaluate(beyond) == []
    of_headings = "[...document.querySelectorAll('h2, h3')].map((e) => getComputedStyle(e).breakAfter)"
    assert set(opened.evaluate(of_headings)) == {"avoid"}
    # A button in a repeated head is painted on the first page alone; the others would not say what their columns are.
    of_buttons = "[...document.querySelectorAll('th button')].map((e) => getComputedStyle(e).display)"
    assert set(opened.evaluate(of_buttons)) == {"contents"}
    assert not opened.locator("nav").is_visible() and not opened.locator("#viewer").is_visible()


def test_figures_follow_the_dark_page(opened):
    opened.emulate_media(color_scheme="dark")
    look = "getComputedStyle(document.querySelector('figure svg')).filter"
    assert "invert" in opened.evaluate(look)
    opened.emulate_media(color_scheme="light")
    assert opened.evaluate(look) == "none"


def test_a_node_shows_what_is_upstream_and_downstream_of_it(opened):
    viewer = opened.locator("#viewer")
    node = viewer.locator(".node[tabindex='0']").first
    node.click()
    about = viewer.locator("[data-about]")
    assert "upstream" in about.inner_text() and "downstream" in about.inner_text()
    assert viewer.locator("svg.dimmed .edge.lit").count() > 0
    node.click()
    assert viewer.locator("svg.dimmed").count() == 0


@pytest.mark.parametrize(
    "graph", [features(), Graph(n_layers=2, n_heads=3, parallel=True)], ids=["features", "parallel"]
)
def test_the_viewer_draws_every_kind_of_node(browser, tmp_path, page_only, graph):
    store = Store(tmp_path / "s", create=True)
    contents = certificate(graph, ablations=("patch",))
    store.write_truth(contents.hash, contents)
    write_done(store, contents, identity("tracr/x", "eap", "patch", truth=contents.hash), 9.0, 0)
    page, said = browser.new_page(), []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(write_report(store.path).as_uri())
    assert said == []
    assert set(page.locator("#viewer .node text").all_text_contents()) == {node.name for node in graph.nodes}
    boxes = page.eval_on_selector_all("#viewer .node rect", "all => all.map((e) => e.getBoundingClientRect().toJSON())")
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            beside = one["right"] <= other["left"] or other["right"] <= one["left"]
            assert beside or one["bottom"] <= other["top"] or other["bottom"] <= one["top"]
    page.close()


@pytest.mark.parametrize("positions", [None, 3], ids=["whole", "by position"])
def test_a_circuit_is_drawn_whole_within_the_picture(browser, tmp_path, positions):
    graph = Graph(n_layers=12, n_heads=2) if positions is None else PositionGraph(12, 2, n_positions=positions)
    edges = [f"a{layer}.h0->a{layer + 5}.h0<k>" + "@1" * bool(positions) for layer in range(7)]
    arrows = [Arrow(Edge.parse(edge), "kept") for edge in edges]
    file = tmp_path / "circuit.html"
    file.write_text(circuit_page("c", [], [CircuitView("c", "", graph, arrows, against_truth=False)]), encoding="utf-8")
    page, said = browser.new_page(), []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(file.as_uri())
    beyond = """all => { const box = all[0].ownerSVGElement.viewBox.baseVal; return all.map((e) => e.getBBox())
        .filter((b) => b.x < box.x || b.x + b.width > box.x + box.width).length; }"""
    assert said == [] and page.locator("svg.circuit .edge").count() == 7
    assert page.eval_on_selector_all("svg.circuit .edge", beyond) == 0
    counts = page.locator("[data-counts]").inner_text()
    assert ("7 dead ends, " in counts) == (positions is None) and "12 nodes without a path (dashed)" in counts
    page.close()


def test_names_with_markup_are_shown_and_not_run(browser, tmp_path, page_only):
    store = Store(tmp_path / "s", create=True)
    contents = certificate(Graph(n_layers=1, n_heads=1, inputs="split"), ablations=("patch",))
    store.write_truth(contents.hash, contents)
    name = "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
    write_done(store, contents, identity("tracr/x", name, "patch", truth=contents.hash), 9.0, 0)
    page = browser.new_page()
    page.goto(write_report(store.path).as_uri())
    assert page.title().startswith("CircuitMeter") and page.locator("img").count() == 0
    assert page.locator("#viewer [name=method] option").first.inner_text() == name
    assert page.locator(f"{LEADERBOARD} tbody td").first.inner_text() == name
    page.close()
