"""The few kinds of panels that the dashboards are made of, as Grafana's JSON model wants them.

Promise: no panel without a title, a description, a unit, and a legend for every query; laid out in rows of 24 columns.
"""

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"


def dashboard(name, title, description, variables, rows):
    """Rows of (height, panels); panels of a row share its width, or say `width`."""
    panels, y = [], 0
    for height, row in rows:
        x = 0
        for panel in row:
            width = panel.pop("width", 24 // len(row))
            panel["gridPos"] = {"h": height, "w": width, "x": x, "y": y}
            panel["id"] = len(panels) + 1
            panels.append(panel)
            x += width
        assert x <= 24, (title, y)
        y += height
    links = {"type": "dashboards", "tags": ["pintail"], "title": "Pintail", "asDropdown": False, "includeVars": True, "keepTime": True,
             "icon": "external link", "targetBlank": False, "tooltip": "", "url": ""}
    return {
        "uid": f"pintail-{name}", "title": f"Pintail: {title}", "description": description, "tags": ["pintail"], "schemaVersion": 41,
        "editable": True, "graphTooltip": 1, "refresh": "10s", "time": {"from": "now-1h", "to": "now"}, "timezone": "browser",
        "links": [links], "annotations": {"list": []}, "templating": {"list": [DATASOURCE_VARIABLE, *variables]}, "panels": panels}


DATASOURCE_VARIABLE = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def variable(name, label, query):
    """A choice of label values; all of them unless somebody chooses."""
    everything = {"selected": True, "text": "All", "value": "$__all"}
    return {"name": name, "label": label, "type": "query", "datasource": DATASOURCE, "query": {"qryType": 1, "query": query, "refId": name},
            "refresh": 2, "sort": 1, "includeAll": True, "allValue": ".*", "multi": True, "current": everything}


def steps(*pairs):
    """Colours from values on: steps((None, GREEN), (30, YELLOW))."""
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for value, color in pairs]}


PLAIN = steps((None, GREEN))


def _targets(queries, **how):
    return [{"refId": chr(ord("A") + at), "datasource": DATASOURCE, "editorMode": "code", "expr": expr, "legendFormat": legend, **how}
            for at, (expr, legend) in enumerate(queries)]


def _panel(kind, title, description, targets, defaults, options, overrides=(), **more):
    return {"type": kind, "title": title, "description": description, "datasource": DATASOURCE, "targets": targets,
            "fieldConfig": {"defaults": defaults, "overrides": list(overrides)}, "options": options, **more}


def _reduced(values=False):
    return {"calcs": ["lastNotNull"], "fields": "", "values": values}


def stat(title, description, expr, unit, thresholds, mappings=(), **more):
    """One number, coloured by what it means."""
    defaults = {"unit": unit, "thresholds": thresholds, "color": {"mode": "thresholds"}, "mappings": list(mappings), "noValue": "none"}
    options = {"reduceOptions": _reduced(), "colorMode": "background", "graphMode": "area", "justifyMode": "auto", "orientation": "auto",
               "textMode": "value", "wideLayout": True, "showPercentChange": False, "percentChangeColorMode": "standard"}
    return _panel("stat", title, description, _targets([(expr, title)]), defaults, options, **more)


def lines(title, description, unit, *queries, thresholds=PLAIN, stacked=False, low=0, high=None, stepped=False, right=None, **more):
    """Curves over time. Thresholds other than plain are drawn as lines. `right`: the unit of the last query, which has an axis of its own there.

    The legend has room for a few curves: the largest come first. An axis of counts reaches 1, or nothing but zeros would show as 0 to 100."""
    custom = {
        "drawStyle": "line", "lineInterpolation": "stepAfter" if stepped else "linear", "lineWidth": 1, "fillOpacity": 40 if stacked else 0,
        "showPoints": "never", "spanNulls": False, "axisPlacement": "auto", "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "off" if thresholds is PLAIN else "dashed"}}
    if unit == "none":
        custom["axisSoftMax"] = 1
    defaults = {"unit": unit, "min": low, "thresholds": thresholds, "color": {"mode": "palette-classic"}, "custom": custom}
    if high is not None:
        defaults["max"] = high
    options = {"legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"], "sortBy": "Last *", "sortDesc": True},
               "tooltip": {"mode": "multi", "sort": "desc"}}
    targets = _targets(queries)
    other = [{"id": "unit", "value": right}, {"id": "custom.axisPlacement", "value": "right"}]
    overrides = [{"matcher": {"id": "byFrameRefID", "options": targets[-1]["refId"]}, "properties": other}] if right else []
    return _panel("timeseries", title, description, targets, defaults, options, overrides, **more)


def bars(title, description, unit, expr, legend, **more):
    """One bar a key, largest first."""
    defaults = {"unit": unit, "min": 0, "thresholds": PLAIN, "color": {"mode": "continuous-BlPu"}}
    options = {"reduceOptions": _reduced(), "displayMode": "gradient", "orientation": "horizontal", "valueMode": "color", "showUnfilled": True,
               "namePlacement": "left", "sizing": "auto", "minVizHeight": 12, "minVizWidth": 8, "maxVizHeight": 40,
               "text": {"titleSize": 12, "valueSize": 14},
               "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []}}
    return _panel("bargauge", title, description, _targets([(expr, legend)], instant=True), defaults, options, **more)


def table(title, description, by, columns, **more):
    """One line a series, one column a query: (expr, column, unit, thresholds)."""
    targets = _targets([(expr, column) for expr, column, *_ in columns], instant=True, format="table")
    names = {f"Value #{target['refId']}": column for target, (_, column, *_) in zip(targets, columns)}
    overrides = [{"matcher": {"id": "byName", "options": column},
                  "properties": [{"id": "unit", "value": unit}, {"id": "thresholds", "value": thresholds},
                                 {"id": "custom.cellOptions", "value": {"type": "color-text"}}]} for _, column, unit, thresholds in columns]
    transformations = [
        {"id": "merge", "options": {}},
        {"id": "filterFieldsByName", "options": {"include": {"names": [*by, *names]}}},
        {"id": "organize", "options": {"indexByName": {name: at for at, name in enumerate([*by, *names])}, "renameByName": names}}]
    defaults = {"unit": "short", "thresholds": PLAIN, "color": {"mode": "thresholds"}, "custom": {"align": "auto", "inspect": False}}
    options = {"showHeader": True, "cellHeight": "sm", "frameIndex": 0, "sortBy": [{"displayName": columns[0][1], "desc": True}]}
    return _panel("table", title, description, targets, defaults, options, overrides, transformations=transformations, **more)


def countries(title, description, expr, **more):
    """A marker a country, by its name in the label `key`, as large as its number."""
    style = {"size": {"field": "Value", "fixed": 5, "min": 3, "max": 22}, "color": {"field": "Value", "fixed": BLUE}, "opacity": 0.7,
             "symbol": {"mode": "fixed", "fixed": "img/icons/marker/circle.svg"}, "rotation": {"fixed": 0, "min": -360, "max": 360, "mode": "mod"}}
    layer = {"type": "markers", "name": title, "tooltip": True, "config": {"showLegend": True, "style": style},
             "location": {"mode": "lookup", "lookup": "key", "gazetteer": "public/gazetteer/countries.json"}}
    options = {
        "basemap": {"type": "default", "name": "Basemap", "config": {}}, "layers": [layer], "tooltip": {"mode": "details"},
        "view": {"id": "zero", "lat": 20, "lon": 0, "zoom": 1.5, "allLayers": True},
        "controls": {"showZoom": True, "mouseWheelZoom": False, "showAttribution": True, "showScale": False, "showMeasure": False, "showDebug": False}}
    defaults = {"unit": "short", "thresholds": PLAIN, "color": {"mode": "continuous-BlPu"}, "custom": {"hideFrom": {"legend": False, "tooltip": False, "viz": False}}}
    return _panel("geomap", title, description, _targets([(expr, "{{key}}")], instant=True, format="table"), defaults, options, **more)
