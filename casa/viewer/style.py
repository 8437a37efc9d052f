"""The window's look: one dark style sheet, sizes in Qt's device-independent pixels."""

from __future__ import annotations

from casa.viewer import palette as p

SHEET = f"""
* {{ color: {p.TEXT}; font-size: 13px; }}
QMainWindow, QWidget#ground {{ background: {p.GROUND}; }}
QWidget#panel, QScrollArea#panel, QScrollArea#panel > QWidget > QWidget {{ background: {p.PANEL}; border: 0; }}
QLabel {{ background: transparent; }}
QLabel#soft, QLabel[kind="soft"] {{ color: {p.SOFT}; }}
QLabel[kind="small"] {{ color: {p.SOFT}; font-size: 12px; }}
QLabel[kind="title"] {{ font-size: 12px; font-weight: 600; color: {p.SOFT}; }}
QLabel[kind="big"] {{ font-size: 22px; font-weight: 600; }}
QLabel[kind="name"] {{ font-size: 15px; font-weight: 600; }}
QLabel[kind="number"] {{ font-weight: 600; }}
QLabel[kind="warn"] {{ color: {p.WARN}; font-size: 12px; }}
QLabel[kind="badge"] {{ background: {p.RAISED}; border-radius: 4px; padding: 2px 8px; font-size: 12px;
  font-weight: 600; }}
QToolButton, QPushButton {{ background: {p.RAISED}; border: 1px solid {p.LINE}; border-radius: 4px; padding: 4px 9px;
  min-height: 18px; }}
QToolButton:hover, QPushButton:hover {{ border-color: {p.FAINT}; background: #263140; }}
QToolButton:focus, QPushButton:focus {{ border-color: {p.ACCENT}; }}
QToolButton:checked, QPushButton:checked {{ background: #27445c; border-color: {p.ACCENT}; }}
QToolButton:disabled, QPushButton:disabled {{ color: {p.FAINT}; background: {p.PANEL}; }}
QSplitter::handle {{ background: {p.GROUND}; }}
QSplitter::handle:hover {{ background: {p.LINE}; }}
QScrollBar:vertical {{ background: transparent; width: 9px; margin: 0; }}
QScrollBar::handle:vertical {{ background: {p.LINE}; border-radius: 4px; min-height: 30px; }}
QScrollBar::add-line, QScrollBar::sub-line, QScrollBar::add-page, QScrollBar::sub-page {{ background: none;
  height: 0; }}
QLineEdit {{ background: {p.GROUND}; border: 1px solid {p.LINE}; border-radius: 4px; padding: 4px 6px;
  selection-background-color: #27445c; }}
QLineEdit:focus {{ border-color: {p.ACCENT}; }}
QDialog, QMessageBox {{ background: {p.PANEL}; }}
QToolTip {{ background: {p.RAISED}; color: {p.TEXT}; border: 1px solid {p.LINE}; padding: 4px; }}
QMenu {{ background: {p.RAISED}; border: 1px solid {p.LINE}; padding: 4px; }}
QMenu::item {{ padding: 5px 18px; border-radius: 3px; }}
QMenu::item:selected {{ background: #27445c; }}
"""
