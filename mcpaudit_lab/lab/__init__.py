from mcpaudit_lab.lab.workbench import Lab
__all__=["Lab"]
