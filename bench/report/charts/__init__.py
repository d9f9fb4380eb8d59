"""Interactive charts of report.html: Vega-Lite specs by Altair, and the numbers behind them, computed from the run."""
